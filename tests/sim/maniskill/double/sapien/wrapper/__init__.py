"""The Python part."""
