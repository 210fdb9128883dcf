"""What tasks have in common whose one body is held by pickers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.pbd.body import Body
from sim.softgym.pickers import Pickers

Vector = NDArray[np.float64]


class Picked:
    """Shows the particles of `body`, and saves and restores it with its `pickers`."""

    body: Body
    pickers: Pickers

    def points(self) -> Vector:
        """See `Task.points`."""
        return self.body.p.T.copy()

    def save(self) -> Vector:
        """See `Task.save`."""
        return np.concatenate([self.body.p.ravel(), self.body.v.ravel(), self.pickers.save()])

    def restore(self, saved: Vector) -> None:
        """See `Task.restore`."""
        n = self.body.p.size
        self.pickers.restore(saved[2 * n :])
        self.body.p[:] = saved[:n].reshape(3, -1)
        self.body.v[:] = saved[n : 2 * n].reshape(3, -1)
