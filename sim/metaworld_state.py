"""Save, restore and wash a MetaWorld environment.

A MetaWorld task keeps state in three places: MuJoCo's data, a few fields of the model (it moves bodies and
sites to place the goal), and attributes of the Python object (the previous observation, distances at the
start). Its own `reset` leaves traces of the last episode in all three, so that an episode would depend on
the one before it.
"""

from __future__ import annotations

import copy
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.gl import load_mujoco

_PLACED_BY_TASKS = ("body_pos", "body_quat", "site_pos", "site_quat", "geom_pos", "geom_quat", "geom_rgba")
_PHYSICS = "/physics"
_NONE = "/none/"


class Pristine:
    """The state of a freshly made environment, to return to before every reset."""

    def __init__(self, env: Any) -> None:
        self._mujoco = load_mujoco()
        self._model = {name: np.array(getattr(env.model, name)) for name in _PLACED_BY_TASKS}
        self._owned = copy.deepcopy({k: v for k, v in vars(env).items() if _is_owned(v)})
        self._shared = {k: v for k, v in vars(env).items() if k not in self._owned}

    def wash(self, env: Any) -> None:
        """Put `env` back, so that its next reset is a function of the task alone."""
        for name, value in self._model.items():
            getattr(env.model, name)[...] = value
        vars(env).clear()
        vars(env).update(self._shared)
        vars(env).update(copy.deepcopy(self._owned))
        self._mujoco.mj_resetData(env.model, env.data)
        self._mujoco.mj_forward(env.model, env.data)


def save(env: Any, header: dict[str, NDArray[Any]]) -> NDArray[np.uint8]:
    """`header`, the integration state and the numeric attributes of `env` as the bytes of one npz archive."""
    mujoco = load_mujoco()
    entries = {f"/header/{name}": value for name, value in header.items()}
    entries[_PHYSICS] = _physics(mujoco, env)
    for name, value in vars(env).items():
        if value is None:
            entries[_NONE + name] = np.zeros(0)
        elif _is_number(value):
            entries[name] = np.asarray(value)
    buffer = io.BytesIO()
    np.savez(buffer, **entries)  # type: ignore[arg-type]
    return np.frombuffer(buffer.getvalue(), dtype=np.uint8).copy()


def read_header(state: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """The header that was given to `save`."""
    entries = _entries(state)
    prefix = "/header/"
    return {name[len(prefix) :]: value for name, value in entries.items() if name.startswith(prefix)}


def restore(env: Any, state: NDArray[np.uint8]) -> None:
    """Put back what `save` took. The environment must have been reset to the same episode before, which
    sets the model's fields and the attributes that are views of MuJoCo's data."""
    mujoco = load_mujoco()
    entries = {name: value for name, value in _entries(state).items() if not name.startswith("/header/")}
    physics = entries.pop(_PHYSICS)
    nones = {name[len(_NONE) :] for name in entries if name.startswith(_NONE)}
    for name, value in list(vars(env).items()):
        if name in nones:
            setattr(env, name, None)
        elif name not in entries and (value is None or _is_number(value)):
            delattr(env, name)
    for name, value in entries.items():
        if not name.startswith(_NONE):
            setattr(env, name, value.item() if value.ndim == 0 else value)
    # mj_forward recomputes what is drawn and observed, but also moves the solver's warm start, which the
    # next step reads: so the state goes in twice.
    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    mujoco.mj_setState(env.model, env.data, physics, kind)
    mujoco.mj_forward(env.model, env.data)
    mujoco.mj_setState(env.model, env.data, physics, kind)


def _physics(mujoco: Any, env: Any) -> NDArray[np.float64]:
    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    physics = np.empty(mujoco.mj_stateSize(env.model, kind))
    mujoco.mj_getState(env.model, env.data, physics, kind)
    return physics


def _entries(state: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    with np.load(
        io.BytesIO(np.ascontiguousarray(state, dtype=np.uint8).tobytes()), allow_pickle=False
    ) as archive:
        return {name: archive[name] for name in archive.files}


def _is_number(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf" and not _is_view_of_mujoco(value)
    return isinstance(value, bool | int | float | np.number | np.bool_)


def _is_owned(value: Any) -> bool:
    """Whether a deep copy of an attribute means the same: not so for MuJoCo's objects and views of their
    memory."""
    if isinstance(value, dict):
        return all(_is_owned(entry) for entry in value.values())
    if isinstance(value, list | tuple):
        return all(_is_owned(entry) for entry in value)
    return value is None or isinstance(value, str) or _is_number(value)


def _is_view_of_mujoco(array: NDArray[Any]) -> bool:
    base: Any = array
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    return not isinstance(base, np.ndarray)
