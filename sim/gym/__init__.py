"""Gymnasium's environments as armchair's, and the classic control tasks of the papers."""
