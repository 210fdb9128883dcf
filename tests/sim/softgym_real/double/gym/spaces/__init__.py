"""gym 0.14's Box."""

import numpy as np


class Box:
    """A box in R^n."""

    def __init__(self, low, high, shape=None, dtype=np.float32):
        self.shape = tuple(np.shape(low) if shape is None else shape)
        self.low = np.full(self.shape, low, dtype) if np.isscalar(low) else np.asarray(low, dtype)
        self.high = np.full(self.shape, high, dtype) if np.isscalar(high) else np.asarray(high, dtype)
        self.dtype = np.dtype(dtype)

    def sample(self):
        """A point of the box."""
        return np.random.uniform(self.low, self.high).astype(self.dtype)
