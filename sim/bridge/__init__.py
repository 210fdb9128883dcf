"""Environments that need a Python of their own: they run in a process of it, behind two pipes."""
