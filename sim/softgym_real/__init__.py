"""Real SoftGym, in a process of its own Python."""
