"""Cameras: sources that deliver frames, and what is measured and published of them.

Sources, clock and health know no ROS; `topics` and `diagnostics` do.
"""
