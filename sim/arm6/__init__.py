"""A position-controlled 6-joint arm with a parallel gripper on a table, made of primitive shapes."""
