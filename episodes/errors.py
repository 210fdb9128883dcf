"""Errors that armchair raises for its user.

    ArmchairError
    ├── ContractError   a robot contract is wrong, or two contracts do not fit together
    ├── EpisodeError    an episode file cannot be written, read or recovered
    ├── DatasetError    a dataset folder, split, label or prepared file is wrong
    ├── BundleError     a policy bundle is damaged or does not fit the robot
    ├── ConfigError     a setting on the command line or in a file is wrong
    ├── MachineError    the machine lacks something: a GL library, disk, a free ROS domain, a compiler
    ├── LabelError      a judge, its answers or the label store failed
    └── StackError      a ROS process died, did not start or did not answer in time

Every message names what is wrong, where it stands, and how to mend it, in one paragraph.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ArmchairError(Exception):
    """Base of every error that is the user's to mend; the front door prints it without a traceback."""


class ContractError(ArmchairError):
    """Raised when a robot contract is invalid, or when two contracts do not fit together."""


class EpisodeError(ArmchairError):
    """Raised when an episode cannot be written, read or recovered."""


class DatasetError(ArmchairError):
    """Raised when a dataset folder, a split, a label file or a prepared file is wrong."""


class BundleError(ArmchairError):
    """Raised when a policy bundle is damaged or does not fit the robot's contract."""


class ConfigError(ArmchairError):
    """Raised when a setting has a value that cannot work."""


class MachineError(ArmchairError):
    """Raised when the machine lacks something that the command needs."""


class LabelError(ArmchairError):
    """Raised when a judge, its answers or the label store failed."""


class StackError(ArmchairError):
    """Raised when a process of a ROS stack died, did not start or did not answer in time."""


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """A trailing hint with the nearest candidate, else the list of all of them."""
    known = sorted(candidates)
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}."
