"""Offline learning algorithms: one file each, with its configuration, its losses and its update."""
