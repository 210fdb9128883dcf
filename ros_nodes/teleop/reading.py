"""What a device says at one moment, and whether it may move the robot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Reading:
    """A device's word. What cannot be trusted opens the dead-man."""

    held: bool = False
    """Whether the dead-man is held."""
    rates: Mapping[str, float] = field(default_factory=dict)
    """Share of full speed, -1 to 1, by target: an entry of the contract, `gripper`, or `tool.x` to
    `tool.rz`."""
    pose: Mapping[str, float] = field(default_factory=dict)
    """Leader arm: where it is, by entry of the contract, in the contract's unit."""
    problem: str = ""
    """Why it cannot be trusted: silent, short, not finite."""


class Engagement:
    """Whether the operator moves the robot: the dead-man held, from released, and nothing wrong since.

    After any problem the dead-man must be released before it engages again, so that a device that comes back
    does not start the arm under an operator who has given up on it.
    """

    def __init__(self) -> None:
        self.engaged = False
        self.lost = False
        """Whether it was torn open by a problem while the operator moved the robot, and has not been released
        by hand since. That is no release: control must not hear one, or the policy would go on with what
        was being corrected."""
        self.why = "the dead-man is open"
        """Why it is not engaged."""
        self._armed = False

    def update(self, held: bool, problem: str) -> bool:
        """Take what is true now; returns whether it engages at this moment."""
        if problem:
            self.open(problem)
            # Released or not: a word that cannot be trusted arms nothing.
            return False
        if not held:
            self.engaged, self._armed, self.why = False, True, "the dead-man is open"
            self.lost = False
            return False
        if not self._armed:
            self.why = self.why if self.why != "the dead-man is open" else "release the dead-man first"
            return False
        rises, self.engaged, self.why = not self.engaged, True, ""
        return rises

    def open(self, why: str) -> None:
        """Something is wrong: open until the dead-man is released."""
        self.lost |= self.engaged
        self.refuse(why)

    def refuse(self, why: str) -> None:
        """The robot has not been moved yet, and must not be: open until the dead-man is released."""
        self.engaged, self._armed, self.why = False, False, why
