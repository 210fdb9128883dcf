"""Where MuJoCo Menagerie lies, which models are in it, and what drives one of them.

Menagerie (https://github.com/google-deepmind/mujoco_menagerie) is a folder of models, each with a scene.xml
that puts the robot on a floor. armchair ships none of it: models have licences of their own, and weigh.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from episodes.errors import ConfigError, MachineError, did_you_mean

PREFIX = "menagerie/"
VARIABLE = "ARMCHAIR_MENAGERIE"
SCENE = "scene"
"""What a model is called where only its folder is named."""
_CLONE = (
    "clone https://github.com/google-deepmind/mujoco_menagerie and write its folder into the environment "
    f"variable {VARIABLE}"
)
_FULL_TRAVERSE_S = 4.0
"""Time in which a joint may cross its whole range, for models that say no speed."""


def menagerie_folder() -> Path | None:
    """$ARMCHAIR_MENAGERIE, or mujoco_menagerie in the user's cache folder, by itself, below armchair or below
    robot_descriptions, which fetches it there; None where none of them is.

    Raises:
        ConfigError: the variable names no folder.
    """
    if given := os.environ.get(VARIABLE):
        if not Path(given).is_dir():
            raise ConfigError(f"{VARIABLE}={given}: there is no such folder; {_CLONE}.")
        return Path(given)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = "mujoco_menagerie"
    places = (cache / name, cache / "armchair" / name, cache / "robot_descriptions" / name)
    return next((place for place in places if place.is_dir()), None)


def models() -> dict[str, str]:
    """Every model's name, MODEL or MODEL/SCENE, with a line; none where the user has no Menagerie."""
    folder = menagerie_folder()
    if folder is None:
        return {}
    found = sorted(folder.glob("*/scene*.xml"))
    return {_name(path): f"{_words(path)}: bring the joints into a pose" for path in found}


def scene_file(model: str) -> Path:
    """The scene of a model, as MODEL or MODEL/SCENE.

    Raises:
        MachineError: there is no Menagerie here.
        ConfigError: no such model in it.
    """
    folder = menagerie_folder()
    if folder is None:
        raise MachineError(f"{PREFIX}{model}: there is no MuJoCo Menagerie here: {_CLONE}.")
    known = models()
    if model not in known:
        raise ConfigError(f"{folder} has no model {model!r} with a scene: {did_you_mean(model, known)}")
    name, _, scene = model.partition("/")
    return folder / name / f"{scene or SCENE}.xml"


def _name(scene: Path) -> str:
    return scene.parent.name if scene.stem == SCENE else f"{scene.parent.name}/{scene.stem}"


def _words(scene: Path) -> str:
    words = scene.parent.name.replace("_", " ")
    return words if scene.stem == SCENE else f"{words}, {scene.stem}"


@dataclass(frozen=True)
class Drive:
    """One actuator as an entry of the action."""

    name: str
    """Of its joint where it is that joint's position servo, else its own."""
    kind: Literal["joint_position", "gripper", "torque"]
    """A position servo of a joint; what keeps its last command, as a servo of a tendon does; what stops at
    zero."""
    lower: float
    upper: float
    max_speed: float
    """Of a position servo, rad/s or m/s."""
    position: int
    """Where its joint stands in qpos; of a position servo alone."""


def drives_of(mujoco: Any, model: Any, name: str) -> tuple[Drive, ...]:
    """What moves a compiled model.

    Raises:
        ConfigError: nothing does, or an actuator has no range.
    """
    if model.nu == 0:
        raise ConfigError(f"{name}: the model has no actuators, so nothing can act in it.")
    drives: list[Drive] = []
    taken: set[str] = set()
    for index in range(model.nu):
        drive = _drive(mujoco, model, name, index)
        if drive.name in taken:  # a second actuator of a joint, such as a damper beside its servo
            own = model.actuator(index).name or f"actuator_{index}"
            drive = Drive(own, "gripper", drive.lower, drive.upper, 0.0, -1)
        taken.add(drive.name)
        drives.append(drive)
    return tuple(drives)


def _drive(mujoco: Any, model: Any, name: str, index: int) -> Drive:
    own = model.actuator(index).name or f"actuator_{index}"
    gain, bias = model.actuator_gainprm[index], model.actuator_biasprm[index]
    servo = bool(model.actuator_biastype[index] == mujoco.mjtBias.mjBIAS_AFFINE and bias[1] != 0.0)
    at_joint = model.actuator_trntype[index] == mujoco.mjtTrn.mjTRN_JOINT
    joint = int(model.actuator_trnid[index][0]) if at_joint else -1
    single = at_joint and model.jnt_type[joint] in (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)
    positional = single and servo and np.isclose(gain[0], -bias[1]) and model.actuator_gear[index][0] == 1.0
    if model.actuator_ctrllimited[index]:
        lower, upper = model.actuator_ctrlrange[index].tolist()
    elif positional and model.jnt_limited[joint]:
        lower, upper = model.jnt_range[joint].tolist()
    elif not servo and model.actuator_forcelimited[index]:
        lower, upper = (model.actuator_forcerange[index] / (gain[0] or 1.0)).tolist()
    else:
        raise ConfigError(
            f"{name}: actuator {own!r} has no range (ctrlrange), which a policy needs: write one into a copy "
            "of the model."
        )
    if not positional:
        held = servo or not lower <= 0.0 <= upper
        return Drive(own, "gripper" if held else "torque", lower, upper, 0.0, -1)
    return Drive(
        name=model.joint(joint).name or f"joint_{joint}",
        kind="joint_position",
        lower=lower,
        upper=upper,
        max_speed=(upper - lower) / _FULL_TRAVERSE_S,
        position=int(model.jnt_qposadr[joint]),
    )
