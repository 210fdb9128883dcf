"""Every environment by name, with a line each; no simulator is loaded to list them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from episodes.errors import ConfigError
from sim.maniskill import install as maniskill
from sim.menagerie.models import models
from sim.softgym_real import install

_METAWORLD = {
    "assembly": "put a ring on a peg",
    "basketball": "drop the ball into the basket",
    "bin-picking": "move a puck from one bin into the other",
    "box-close": "put the lid on the box",
    "button-press-topdown": "press a button from above",
    "button-press-topdown-wall": "press a button from above, behind a wall",
    "button-press": "press a button from the front",
    "button-press-wall": "press a button from the front, round a wall",
    "coffee-button": "press the button of the coffee machine",
    "coffee-pull": "pull the mug away from the coffee machine",
    "coffee-push": "push the mug under the coffee machine",
    "dial-turn": "turn a dial by half a turn",
    "disassemble": "take a ring off a peg",
    "door-close": "close a door with a revolute hinge",
    "door-lock": "lock a door by turning the bolt",
    "door-open": "open a door with a revolute hinge",
    "door-unlock": "unlock a door by turning the bolt",
    "hand-insert": "put the gripper into a hole",
    "drawer-close": "push a drawer shut",
    "drawer-open": "pull a drawer open",
    "faucet-open": "turn a faucet one way",
    "faucet-close": "turn a faucet the other way",
    "hammer": "drive a nail in with a hammer",
    "handle-press-side": "press a handle down from the side",
    "handle-press": "press a handle down",
    "handle-pull-side": "pull a handle up from the side",
    "handle-pull": "pull a handle up",
    "lever-pull": "pull a lever up by a quarter turn",
    "pick-place-wall": "carry a puck over a wall to a goal",
    "pick-out-of-hole": "lift a puck out of a hole",
    "pick-place": "carry a puck to a goal in the air",
    "plate-slide": "slide a plate into the cabinet",
    "plate-slide-side": "slide a plate into the cabinet, sideways",
    "plate-slide-back": "slide a plate back out of the cabinet",
    "plate-slide-back-side": "slide a plate back out of the cabinet, sideways",
    "peg-insert-side": "push a peg into a hole in the side of a block",
    "peg-unplug-side": "pull a peg out of the side of a block",
    "soccer": "kick a ball into the goal",
    "stick-push": "push a thermos with a stick",
    "stick-pull": "pull a thermos by its handle with a stick",
    "push": "push a puck to a goal",
    "push-wall": "push a puck round a wall to a goal",
    "push-back": "pull a block back to a goal",
    "reach": "bring the gripper to a goal",
    "reach-wall": "bring the gripper over a wall to a goal",
    "shelf-place": "put a block on a shelf",
    "sweep-into": "sweep a cube into the hole",
    "sweep": "sweep a cube off the table",
    "window-open": "slide a window open",
    "window-close": "slide a window shut",
}
_ARM6 = {
    "reach": "touch the green target with the fingertips",
    "pick-place": "put the red cube on the blue pad",
    "push": "push the red puck onto the blue disc",
    "drawer": "pull a drawer open until its handle is at the green mark",
}
_SOFTGYM = {
    "RopeFlatten": "pull a crumpled rope straight with two pickers",
    "RopeFlattenEasy": "pull a rope straight by its ends, which are held (RL-VLM-F)",
    "RopeConfiguration": "lay a rope in the shape of a letter",
    "ClothFold": "fold a cloth in half with two pickers",
    "ClothFoldPPP": "fold a cloth in half, one pick and place a step",
    "ClothFoldDiagonal": "fold a cloth corner to corner in one step (RL-VLM-F)",
    "ClothFlatten": "spread a crumpled cloth",
    "ClothFlattenPPP": "spread a crumpled cloth, one pick and place a step",
    "ClothDrop": "lay a hanging cloth down flat",
    "PassWater": "carry a glass of water without spilling",
    "PourWater": "pour water from one glass into another",
}
_FULL = ("ClothFold", "ClothFlatten", "ClothDrop", "PassWater", "PourWater")


_GYMNASIUM = {
    "CartPole-v1": "balance a pole by pushing the cart left or right; ends when it falls",
    "MountainCarContinuous-v0": "drive an underpowered car up a hill; ends at the flag",
    "Humanoid-v5": "run with a humanoid; ends when it falls",
    "FetchReach-v4": "bring the gripper to a goal (gymnasium-robotics)",
    "FetchPush-v4": "push a block to a goal (gymnasium-robotics)",
    "FetchSlide-v4": "hit a puck so that it slides to a goal (gymnasium-robotics)",
    "FetchPickAndPlace-v4": "carry a block to a goal (gymnasium-robotics)",
}
_VLMRM = {
    "CartPole": "balance a pole; 200 steps, held at the limits",
    "MountainCarContinuous": "drive the car up the hill; 200 steps, held at the flag",
    "Humanoid": "take a pose that CLIP is told of; 100 steps, falling does not end it",
}


@dataclass(frozen=True)
class Family:
    """Environments of one kind."""

    name: str
    """What stands before the first /."""
    what: str
    """A line about all of them."""
    tasks: dict[str, str]
    """Name of the task -> a line."""

    note: Callable[[], str] = lambda: ""
    """What keeps it from being used on this machine; empty where nothing does."""

    @property
    def environments(self) -> tuple[str, ...]:
        """Names as `make_env` takes them."""
        return tuple(f"{self.name}/{task}" for task in self.tasks)


FAMILIES = (
    Family(
        "metaworld",
        "Sawyer on a table, MuJoCo (MetaWorld MT50, Yu et al. 2019); all have a scripted expert",
        {f"{name}-v3": line for name, line in _METAWORLD.items()},
    ),
    Family("arm6", "armchair's six-joint arm with a gripper, MuJoCo; all have a scripted expert", _ARM6),
    Family(
        "softgym-equivalent",
        "SoftGym's tasks (Lin et al. 2020) on armchair's own soft-body physics: not SoftGym",
        {**_SOFTGYM, **{f"{name}-full": f"{_SOFTGYM[name]}, SoftGym's size" for name in _FULL}},
    ),
    Family("gymnasium", "any id that gymnasium.make takes; for example", _GYMNASIUM),
    Family("vlmrm", "fixed-length tasks of vlmrm (Rocamonde et al. 2023)", _VLMRM),
    Family(
        "rl-vlm-f",
        "tasks of RL-VLM-F (Wang et al. 2024) that are nowhere else",
        {"CartPole": "balance a pole with a continuous force; 100 steps, the pole never falls"},
    ),
)

ADAPTERS = (
    Family(
        "softgym",
        "real SoftGym on FleX, in a process of its own Python",
        {name: task.line for name, task in install.TASKS.items()},
        install.note,
    ),
    Family(
        "maniskill",
        "any task of ManiSkill 3, in a process of its own environment; for example",
        {name: line for name, (line, _) in maniskill.TASKS.items()},
        maniskill.note,
    ),
)
"""Families that need an installation of the user's."""


def families() -> tuple[Family, ...]:
    """Those that come with armchair, then those that this machine has an installation or models for.

    Raises:
        ConfigError: the variable that names Menagerie's folder names none.
    """
    what = "robots of MuJoCo Menagerie, brought into a pose; those that are on this machine"
    usable = (family for family in ADAPTERS if not family.note())
    return (*FAMILIES, *usable, Family("menagerie", what, models()))


def environments(family: str = "") -> tuple[str, ...]:
    """Names of all environments, or of one family.

    Raises:
        ConfigError: no such family.
    """
    known = families()
    chosen = [entry for entry in known if family in ("", entry.name)]
    if not chosen:
        raise ConfigError(
            f"there is no family {family!r}: write one of {', '.join(entry.name for entry in known)}."
        )
    return tuple(name for entry in chosen for name in entry.environments)
