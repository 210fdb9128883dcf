"""The tasks by SoftGym's names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from episodes.errors import ConfigError, did_you_mean
from sim.softgym.cloth import CLOTH, ClothTask
from sim.softgym.cloth_flatten import ClothDrop, ClothFlatten
from sim.softgym.cloth_fold import ClothFold, ClothFoldDiagonal
from sim.softgym.mjcf import Parts
from sim.softgym.pass_water import WATER, PassWater
from sim.softgym.pour_water import WATER as POURED
from sim.softgym.pour_water import PourWater
from sim.softgym.rope import ROPE, SPACING_M, RopeFlatten, RopeFlattenEasy
from sim.softgym.rope_configuration import RopeConfiguration
from sim.softgym.task import Task


@dataclass(frozen=True)
class Entry:
    """A task, and what its environment must know about it."""

    task: Task
    key: str
    """What its initial states depend on."""
    picker_entries: int
    """Entries at the end of its state that are the pickers'."""
    hides_pickers: bool = False
    """Whether SoftGym's pictures of it leave the pickers out."""


def _rope_flatten() -> Entry:
    return Entry(RopeFlatten(), repr(ROPE), 6)


def _rope_flatten_easy() -> Entry:
    return Entry(RopeFlattenEasy(), repr(ROPE), 6, hides_pickers=True)


def _rope_configuration() -> Entry:
    return Entry(RopeConfiguration(), repr(ROPE), 6)


def _cloth(task: ClothTask, pickers: int = 2, *, hides: bool = False) -> Entry:
    return Entry(task, f"{CLOTH!r} {task.sizes!r}", 3 * pickers, hides)


def _pass_water(*, full: bool) -> Entry:
    return Entry(PassWater(full=full), f"{WATER!r} {full}", 0)


def _pour_water(*, full: bool) -> Entry:
    return Entry(PourWater(full=full), f"{POURED!r} {full}", 0)


TASKS: dict[str, Callable[[], Entry]] = {
    "RopeFlatten": _rope_flatten,
    "RopeFlattenEasy": _rope_flatten_easy,
    "RopeConfiguration": _rope_configuration,
    "ClothFold": lambda: _cloth(ClothFold()),
    "ClothFold-full": lambda: _cloth(ClothFold(full=True)),
    "ClothFoldPPP": lambda: _cloth(ClothFold(mode="pickerpickplace")),
    "ClothFoldDiagonal": lambda: _cloth(ClothFoldDiagonal(), 1, hides=True),
    "ClothFlatten": lambda: _cloth(ClothFlatten()),
    "ClothFlatten-full": lambda: _cloth(ClothFlatten(full=True)),
    "ClothFlattenPPP": lambda: _cloth(ClothFlatten(mode="pickerpickplace")),
    "PassWater": lambda: _pass_water(full=False),
    "PassWater-full": lambda: _pass_water(full=True),
    "PourWater": lambda: _pour_water(full=False),
    "PourWater-full": lambda: _pour_water(full=True),
    "ClothDrop": lambda: _cloth(ClothDrop()),
    "ClothDrop-full": lambda: _cloth(ClothDrop(full=True)),
}


def make_task(name: str) -> Entry:
    """A new instance of a task.

    Raises:
        ConfigError: no such task.
    """
    if name not in TASKS:
        raise ConfigError(f"softgym-equivalent has no task {name!r}: {did_you_mean(name, TASKS)}")
    return TASKS[name]()


def parts_of(task: Task, *, hidden: bool) -> Parts:
    """How much a task draws at most; `hidden` leaves the pickers out."""
    look = task.look()
    return Parts(
        cameras=tuple(look.cameras.items()),
        rope=0 if look.rope is None else look.rope.shape[1],
        rope_radius_m=look.rope_radius_m,
        rope_spacing_m=SPACING_M,
        cloth=(task.sizes.most, task.sizes.most) if isinstance(task, ClothTask) else (0, 0),
        cloth_radius_m=0.6 * task.sizes.spacing_m if isinstance(task, ClothTask) else 0.0,
        water=0 if look.water is None else task.most_points,
        water_radius_m=look.water_radius_m,
        boxes=len(look.boxes),
        balls=0 if hidden else len(look.balls),
        ball_radius_m=look.ball_radius_m,
        goal=0 if look.goal is None else look.goal.shape[1],
        goal_radius_m=0.5 * look.rope_radius_m,
        mark=look.mark is not None,
    )
