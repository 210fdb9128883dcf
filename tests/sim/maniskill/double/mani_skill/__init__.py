"""ManiSkill 3."""

__version__ = "3.0.1"
