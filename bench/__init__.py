"""Measurements: one command per published figure, and the main job that they measure."""
