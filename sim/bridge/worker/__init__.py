"""What runs in the other Python: scripts for Python 3.6 and later that import nothing of armchair."""
