"""Position-based dynamics of cloth, rope and water on one thread: particles, distance constraints, contacts,
density. Imports numba, which takes its time: only what simulates soft bodies imports this package."""
