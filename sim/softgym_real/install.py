"""Where the user has SoftGym, and what its tasks are called."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from episodes.errors import ConfigError, MachineError

PYTHON = "ARMCHAIR_SOFTGYM_PYTHON"
PYTHONPATH = "ARMCHAIR_SOFTGYM_PYTHONPATH"
STATES = "ARMCHAIR_SOFTGYM_STATES"
VARIATIONS = "ARMCHAIR_SOFTGYM_VARIATIONS"
CUDA = "ARMCHAIR_SOFTGYM_CUDA"
_PATHS = ("PYTHONPATH", "PYFLEXROOT")


@dataclass(frozen=True)
class RealTask:
    """What is known of a task before SoftGym is asked."""

    line: str
    """What is to be done."""
    horizon: int
    """Steps of an episode in SoftGym, or in RL-VLM-F."""
    solved: float = 0.9
    """Normalised performance that counts as success where SoftGym declares none; the bounds are those of
    `softgym-equivalent`."""
    solved_reward: float | None = None
    """Reward above which the task is solved, where that is the bound instead."""


TASKS = {
    "RopeFlatten": RealTask("pull a crumpled rope straight with two pickers", 75, 0.95),
    "RopeFlattenEasy": RealTask("pull a rope straight by its ends (RL-VLM-F's SoftGym)", 40),
    "RopeConfiguration": RealTask("lay a rope in the shape of a letter", 100),
    "ClothFold": RealTask("fold a cloth in half with two pickers", 100, 0.85),
    "ClothFoldPPP": RealTask("fold a cloth in half, one pick and place a step", 20, 0.85),
    "ClothFoldCrumpled": RealTask("fold a crumpled cloth in half", 100, 0.85),
    "ClothFoldDrop": RealTask("lay a hanging cloth down folded", 100, 0.85),
    "ClothFoldDiagonal": RealTask("fold a cloth corner to corner in one step (RL-VLM-F's SoftGym)", 1),
    "ClothFlatten": RealTask("spread a crumpled cloth", 100),
    "ClothFlattenPPP": RealTask("spread a crumpled cloth, one pick and place a step", 20),
    "ClothDrop": RealTask("lay a hanging cloth down flat", 30, 0.8),
    "PassWater": RealTask("carry a glass of water without spilling", 75, solved_reward=-0.36),
    "PourWater": RealTask("pour water from one glass into another", 100),
    "PourWaterAmount": RealTask("pour a given amount of water", 100),
}


@dataclass(frozen=True)
class SoftGymInstall:
    """Where SoftGym is, and how it is started."""

    python: str
    """Interpreter of the environment that has SoftGym and PyFleX."""
    pythonpath: str | None = None
    """PYTHONPATH of its process; None for armchair's own."""
    pyflexroot: str | None = None
    """PYFLEXROOT of its process; None for armchair's own."""
    states: Path | None = None
    """File with initial states (.pkl), or a folder of such under SoftGym's names; None for SoftGym's own
    folder `cached_initial_states`. They are SoftGym's pickles, which SoftGym loads: name none whose origin
    you do not trust."""
    variations: int | None = None
    """How many initial states; None for SoftGym's 1,000, which must be there. A number that is named here is
    made on first use, about a minute each, and kept in a file of its own, in the folder `states` or in
    armchair's cache."""
    headless: bool = True
    """Draw without a display."""
    check_cuda: bool = True
    """Try CUDA before FleX is started, which ends its process without a word where there is none."""
    open_s: float = 600.0
    """Seconds without a sign of life after which opening has failed."""
    answer_s: float = 120.0
    """Seconds after which a step has failed."""

    def __post_init__(self) -> None:
        if not self.python:
            raise MachineError(NOT_INSTALLED)
        if self.variations is not None and self.variations < 1:
            raise ConfigError(f"{VARIATIONS}={self.variations}: write a number of 1 or more.")
        if self.variations is not None and self.states is not None and self.states.suffix == ".pkl":
            raise ConfigError(
                f"{STATES}={self.states} is a file with states, and {VARIATIONS}={self.variations} asks for "
                "others: leave one of them out, or name a folder."
            )

    @property
    def variables(self) -> dict[str, str]:
        """What its process has in its environment beside armchair's variables."""
        given = {"PYTHONPATH": self.pythonpath, "PYFLEXROOT": self.pyflexroot}
        return {name: value for name, value in given.items() if value is not None}

    def keep(self, cache: Path) -> Path:
        """Folder of the states that are made: of one installation alone, since its pickles fit its numpy."""
        if self.states is not None:
            return self.states.absolute()
        paths = [self.python, *(self.variables.get(name, os.environ.get(name, "")) for name in _PATHS)]
        return cache / "softgym" / hashlib.sha256("\n".join(paths).encode()).hexdigest()[:12]


NOT_INSTALLED = (
    "real SoftGym is not installed, or armchair does not know where: it needs an NVIDIA GPU and an old "
    f"Python of its own. Install it after its README, then export {PYTHON}=/path/to/envs/softgym/bin/python. "
    "softgym-equivalent/TASK runs without it."
)


def found(variables: Mapping[str, str] | None = None) -> SoftGymInstall:
    """The installation that environment variables name.

    Raises:
        MachineError: they name none.
        ConfigError: a number among them is none.
    """
    named = os.environ if variables is None else variables
    count, folder = named.get(VARIATIONS, ""), named.get(STATES, "")
    if count and not count.isdecimal():
        raise ConfigError(f"{VARIATIONS}={count!r}: write how many initial states SoftGym is to have.")
    return SoftGymInstall(
        named.get(PYTHON, ""),
        pythonpath=named.get(PYTHONPATH) or None,
        states=Path(folder).expanduser().absolute() if folder else None,
        variations=int(count) if count else None,
        check_cuda=named.get(CUDA, "1") != "0",
    )


def note(variables: Mapping[str, str] | None = None) -> str:
    """What keeps the family from being used, as far as can be told without starting anything; empty where
    nothing does."""
    named = os.environ if variables is None else variables
    python = named.get(PYTHON, "")
    if not python:
        return f"not installed: export {PYTHON}=/path/to/envs/softgym/bin/python (docs/softgym.md)"
    return "" if shutil.which(python) else f"not installed: {PYTHON}={python} is no program"


def horizon_of(task: str) -> int:
    """Steps of an episode of a task that SoftGym or RL-VLM-F has.

    Raises:
        ConfigError: neither has it.
    """
    if task not in TASKS:
        raise ConfigError(f"the horizon of softgym/{task} is not known before it is made: say --horizon.")
    return TASKS[task].horizon
