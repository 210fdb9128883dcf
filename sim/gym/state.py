"""Save and restore a Gymnasium environment, to the last bit.

Of MuJoCo's environments: the integration state, the numeric attributes of the Python object, and every array
of MjData whose size the model fixes. The last are needed because observations and rewards read quantities
(xipos, cinert, cfrc_ext) that a physics step leaves one step behind the positions, so that recomputing them
from the state gives other numbers.

Of the rest: their numeric attributes where `state` is one of them (classic control), else the actions since
the reset, which restoring takes again.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.gl import load_mujoco

_PHYSICS, _DATA, _OWN, _RNG = "/physics", "/data/", "/own/", "/rng"
_NONE = "/none/"


def by_attributes(env: Any) -> bool:
    """Whether numeric attributes are all of an environment's state."""
    state = getattr(env, "state", None)
    return _has_physics(env) or (state is not None and _is_number(np.asarray(state)))


def save(env: Any) -> dict[str, NDArray[Any]]:
    """What `restore` takes, of an environment (unwrapped) that is kept by its attributes."""
    entries: dict[str, NDArray[Any]] = {}
    if _has_physics(env):
        mujoco = load_mujoco()
        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        physics = np.empty(mujoco.mj_stateSize(env.model, kind))
        mujoco.mj_getState(env.model, env.data, physics, kind)
        entries[_PHYSICS] = physics
        entries.update({_DATA + name: np.array(array) for name, array in _data_arrays(env).items()})
    for name, value in vars(env).items():
        if value is None:
            entries[_NONE + name] = np.zeros(0)
        elif _is_number(value) and not _is_view(value):
            entries[_OWN + name] = np.asarray(value)
    generator = getattr(env, "_np_random", None)
    if generator is not None:
        state = json.dumps(generator.bit_generator.state, default=int)
        entries[_RNG] = np.frombuffer(state.encode(), dtype=np.uint8)
    return entries


def restore(env: Any, entries: dict[str, NDArray[Any]]) -> None:
    """Put back what `save` took; the environment must have been reset before."""
    for name, value in entries.items():
        if name.startswith(_OWN):
            kept = value.item() if value.ndim == 0 else value.copy()
            setattr(env, name[len(_OWN) :], kept)
        elif name.startswith(_NONE):
            setattr(env, name[len(_NONE) :], None)
    if _RNG in entries:
        env.np_random.bit_generator.state = json.loads(entries[_RNG].tobytes().decode())
    if _PHYSICS in entries:
        mujoco = load_mujoco()
        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        mujoco.mj_setState(env.model, env.data, entries[_PHYSICS], kind)
        mujoco.mj_forward(env.model, env.data)
        mujoco.mj_setState(env.model, env.data, entries[_PHYSICS], kind)
        arrays = _data_arrays(env)
        for name, value in entries.items():
            if name.startswith(_DATA):
                arrays[name[len(_DATA) :]][...] = value


def _has_physics(env: Any) -> bool:
    return hasattr(env, "model") and hasattr(env, "data") and hasattr(env.data, "qpos")


def _data_arrays(env: Any) -> dict[str, NDArray[Any]]:
    """The arrays of MjData that bodies, joints, geoms, sites, tendons and actuators have; contacts and
    constraints differ in number from step to step, and every step computes them before they are read."""
    data, model = env.data, env.model
    sizes = {model.nbody, model.njnt, model.ngeom, model.nsite, model.nv, model.nq, model.nu, model.ntendon}
    arrays = {}
    for name in dir(data):
        if name.startswith(("_", "efc_", "ef_", "iefc_", "contact", "solver", "warning", "timer", "maxuse")):
            continue
        value = getattr(data, name)
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.ndim and len(value) in sizes:
            arrays[name] = value
    return arrays


def _is_number(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf"
    if isinstance(value, tuple):
        return bool(value) and all(_is_number(entry) for entry in value)
    return isinstance(value, bool | int | float | np.number | np.bool_)


def _is_view(value: Any) -> bool:
    """Whether an array shows memory of MuJoCo's."""
    base = value
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    return isinstance(value, np.ndarray) and not isinstance(base, np.ndarray)
