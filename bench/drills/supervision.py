"""The drills in which the supervisor is the e-stop source: it takes the button's place on its topic."""

from __future__ import annotations

from bench.drills.drill import Drill
from bench.drills.rig import ESTOP, Rig
from episodes.errors import StackError

SILENCE_MS = 300.0
"""After which control takes an e-stop source for silent."""
BEAT_MS = 50.0
"""Period of the supervisor's heartbeat."""


def _press(rig: Rig) -> int:
    asked_ns = rig.now_ns()
    rig.services.trigger("supervisor/estop")
    return asked_ns


def _release(rig: Rig) -> None:
    released, why = rig.services.trigger("supervisor/release")
    if not released:
        raise StackError(f"supervisor/release is refused: {why}")


SUPERVISOR_DRILLS = (
    Drill(
        "e-stop through the supervisor", _press, _release, f"e-stop is pressed: {ESTOP}", BEAT_MS, BEAT_MS,
        prepare=lambda rig: rig.own_supervisor(), restore=lambda rig: rig.own_pendant(),
    ),
)  # fmt: skip
SILENT_DRILLS = (
    Drill(
        "supervisor killed", lambda rig: rig.kill("supervisor"), lambda rig: rig.start_supervisor(),
        "e-stop is silent", SILENCE_MS, SILENCE_MS,
        prepare=lambda rig: rig.own_supervisor(), restore=lambda rig: rig.own_pendant(),
    ),
    Drill(
        "supervisor hung", lambda rig: rig.hang("supervisor"), lambda rig: rig.crew.resume("supervisor"),
        "e-stop is silent", SILENCE_MS, SILENCE_MS,
        prepare=lambda rig: rig.own_supervisor(), restore=lambda rig: rig.own_pendant(),
    ),
)  # fmt: skip
