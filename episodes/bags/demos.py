"""The demos of a robomimic HDF5 file as frames that fit a robot contract."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from episodes.contract import Contract, ObservationStream
from episodes.errors import DatasetError, did_you_mean


def demos(file: Any, filter_key: str | None) -> list[str]:
    """Names of the demos of a mask, or of all, by their numbers; DatasetError when there are none."""
    if filter_key is None:
        names = [str(name) for name in file["data"]]
    elif f"mask/{filter_key}" in file:
        names = [name.decode("utf-8") for name in file[f"mask/{filter_key}"][:]]
    else:
        known = did_you_mean(filter_key, file.get("mask", ()))
        raise DatasetError(f"{file.filename}: there is no filter key {filter_key!r}; {known}")
    names = [name for name in names if name.startswith("demo_")]
    if not names:
        raise DatasetError(f"{file.filename}: there is no demo in it.")
    return sorted(names, key=lambda name: int(name.removeprefix("demo_")))


def stream_keys(
    demo: Any, contract: Contract, mapped: Mapping[str, str], path: Path, missing: list[str]
) -> dict[str, tuple[str, ...]]:
    """Keys under obs that make each stream of the contract."""
    shapes = {str(key): demo["obs"][key].shape[1:] for key in demo["obs"]}
    there = ", ".join(f"{key} {list(shape)}" for key, shape in shapes.items())
    for stream in mapped:
        if stream not in contract.observations:
            raise DatasetError(
                f"{path}: the contract has no stream {stream!r}; "
                f"{did_you_mean(stream, contract.observations)}"
            )
    keys = {}
    for name in contract.observations:
        wanted = tuple(mapped.get(name, name).split("+"))
        if all(key in shapes for key in wanted):
            keys[name] = wanted
        else:
            missing.append(f"{path}: stream {name!r} is not in obs, which holds {there}")
    if contract.reference not in keys:
        raise DatasetError(
            f"{path}: the reference stream {contract.reference!r} is not in obs, which holds {there}. "
            f"Map it: --keys {contract.reference} {next(iter(shapes), 'KEY')}"
        )
    dim = demo["actions"].shape[1:]
    if dim != (contract.action_dim,):
        raise DatasetError(
            f"{path}: actions have {list(dim)} entries, the contract {contract.action_dim} "
            f"({', '.join(contract.action_names)}): it is another robot's contract."
        )
    return keys


class DemoFrames:
    """One demo as frames: T+1 where next_obs holds the last one, else T, and one action less."""

    def __init__(
        self, path: Path, demo: Any, contract: Contract, keys: Mapping[str, tuple[str, ...]]
    ) -> None:
        self.name = f"{path}: {demo.name}"
        self.demo = demo
        self.keys = keys
        self._contract = contract
        steps = int(demo["actions"].shape[0])
        following = "next_obs" in demo and all(
            k in demo["next_obs"] for wanted in keys.values() for k in wanted
        )
        self._extra = following
        self._length = steps if following else steps - 1
        if self._length < 1:
            raise DatasetError(f"{self.name}: {steps} steps make no transition.")
        self.actions = np.asarray(demo["actions"][: self._length], dtype=np.float64)
        bad = np.flatnonzero(~np.isfinite(self.actions).all(axis=1))
        if len(bad):
            raise DatasetError(f"{self.name}: the action of step {bad[0]} is not finite.")

    def __len__(self) -> int:
        """T, the number of transitions."""
        return self._length

    def read(self, name: str) -> NDArray[Any]:
        """All frames of a stream, (T+1, *shape), in the contract's dtype."""
        stream = self._contract.observations[name]
        groups = [("obs", slice(0, self._length + (not self._extra)))]
        groups += [("next_obs", slice(self._length - 1, self._length))] if self._extra else []
        parts = []
        for group, rows in groups:
            values = [np.asarray(self.demo[group][key][rows]) for key in self.keys[name]]
            values = [v if stream.is_image else v.reshape(len(v), -1) for v in values]
            parts.append(np.concatenate(values, axis=-1))
        return _fitting(np.concatenate(parts), stream, self.name)

    def column(self, key: str) -> NDArray[Any] | None:
        """A dataset of one entry per transition, where the demo has it."""
        if key not in self.demo or self.demo[key].shape[:1] < (self._length,):
            return None
        return np.asarray(self.demo[key][: self._length])


def _fitting(values: NDArray[Any], stream: ObservationStream, where: str) -> NDArray[Any]:
    if stream.is_image and values.ndim == 3:
        values = values[..., None]
    kinds = "fiub" if not stream.is_image else np.dtype(stream.dtype).kind
    if values.shape[1:] != stream.shape or values.dtype.kind not in kinds:
        raise DatasetError(
            f"{where}: stream {stream.name!r} holds {values.dtype} {list(values.shape[1:])}, "
            f"the contract says {stream.dtype} {list(stream.shape)}."
        )
    return values.astype(stream.dtype, copy=False)
