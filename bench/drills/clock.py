"""Drills with a simulated clock that jumps, heard by every node."""

from __future__ import annotations

from bench.drills.drill import Drill
from bench.drills.rig import Rig

JUMP_FAULT_MS = 100.0
"""The contract's largest age of the joints: by then what was measured before the jump is refused."""


SAYS = "the ROS clock jumped|joints was measured"
"""Which of the two depends on whether the clock or the joints are heard first."""


def jump(name: str, from_s: float, to_s: float) -> Drill:
    """The clock, off by `from_s` before, is off by `to_s` from here on; nothing has to be mended."""

    def prepare(rig: Rig) -> None:
        rig.own_policy()
        rig.services.set("sim", clock_jump_s=from_s)

    def inject(rig: Rig) -> int:
        return rig.services.set("sim", clock_jump_s=to_s)

    return Drill(name, inject, lambda rig: None, SAYS, JUMP_FAULT_MS, JUMP_FAULT_MS, prepare)


CLOCK_DRILLS = (
    jump("clock jumps 5 s ahead", 0.0, 5.0),
    jump("clock jumps 3 s back", 5.0, 2.0),
)
