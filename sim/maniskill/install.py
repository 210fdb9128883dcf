"""Where the user has ManiSkill, and some of its tasks."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Mapping

from episodes.errors import ConfigError, MachineError

PYTHON = "ARMCHAIR_MANISKILL_PYTHON"

TASKS = {
    "PickCube-v1": ("grasp a cube and hold it at a goal", 50),
    "PushCube-v1": ("push a cube to a goal", 50),
    "PullCube-v1": ("pull a cube to a goal", 50),
    "StackCube-v1": ("put a cube on another", 50),
    "LiftPegUpright-v1": ("stand a peg upright", 50),
    "PokeCube-v1": ("poke a cube with a peg", 50),
    "RollBall-v1": ("roll a ball to a goal", 80),
    "PegInsertionSide-v1": ("put a peg into a hole in the side of a box", 100),
    "PlugCharger-v1": ("plug a charger in", 200),
}
"""Tasks that need neither a download nor Vulkan: what is to be done, and steps of an episode."""

NOT_INSTALLED = (
    "ManiSkill is not installed, or armchair does not know where: python -m venv ~/maniskill, "
    f"~/maniskill/bin/pip install mani_skill torch, then export {PYTHON}=~/maniskill/bin/python."
)


def python(variables: Mapping[str, str] | None = None) -> str:
    """The interpreter that has ManiSkill: what the variable names, else armchair's own where it has it.

    Raises:
        MachineError: neither does.
    """
    named = os.environ if variables is None else variables
    if named.get(PYTHON):
        return os.path.expanduser(named[PYTHON])
    if importlib.util.find_spec("mani_skill") is not None:
        return sys.executable
    raise MachineError(NOT_INSTALLED)


def note(variables: Mapping[str, str] | None = None) -> str:
    """What keeps the family from being used, as far as can be told without starting anything."""
    try:
        chosen = python(variables)
    except MachineError:
        return f"not installed: export {PYTHON}=/path/to/maniskill/bin/python (docs/sim.md)"
    return "" if shutil.which(chosen) else f"not installed: {PYTHON}={chosen} is no program"


def horizon_of(task: str) -> int:
    """Steps of an episode of a task in `TASKS`.

    Raises:
        ConfigError: it is none of them.
    """
    if task not in TASKS:
        raise ConfigError(f"the horizon of maniskill/{task} is not known before it is made: say --horizon.")
    return TASKS[task][1]
