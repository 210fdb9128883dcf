"""ManiSkill 3, in a process of its own environment."""
