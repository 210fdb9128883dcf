"""Checkpoints: one safetensors file each, with everything that is no tensor as JSON in its header.

A state is a tree of dicts, lists and tuples over tensors and plain values, which is what `state_dict()` of
modules and optimisers returns. Nothing is pickled, so a checkpoint from elsewhere cannot run code.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from episodes.errors import DatasetError

SCHEMA = "armchair/checkpoint/1"
SUFFIX = ".safetensors"

State = dict[str, Any]

_STEP_NAME = re.compile(r"step-(\d{8,})")


def save_state(path: Path, state: Mapping[str, Any], step: int) -> None:
    """Write `state` to `path` in one step: the file is complete and on disk, or what was there stays.

    Raises:
        TypeError: the state holds something else than tensors, str, int, float, bool, None and containers.
    """
    tensors: dict[str, Tensor] = {}
    tree = _encode(state, "", tensors)
    metadata = {"schema": SCHEMA, "step": str(step), "state": json.dumps(tree)}
    data = save_tensors(tensors, metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load_state(path: Path) -> State:
    """Read what `save_state` wrote; tensors lie on the CPU.

    Raises:
        DatasetError: the file is missing, damaged or no checkpoint of armchair.
    """
    metadata = _metadata(path)
    try:
        tensors = load_tensors(path.read_bytes())
        state = _decode(json.loads(metadata["state"]), tensors)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error
    if not isinstance(state, dict):
        raise _damaged(path, "its state is no mapping")
    return state


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of a run: `step-<n>` for the newest `keep_last`, and named ones, which stay."""

    folder: Path
    keep_last: int

    def save(self, state: Mapping[str, Any], step: int, name: str | None = None) -> Path:
        """Write a checkpoint, under its step or under `name`, and delete numbered ones beyond `keep_last`."""
        path = self.folder / f"{name or f'step-{step:08d}'}{SUFFIX}"
        save_state(path, state, step)
        numbered = sorted(p for p in self.folder.glob(f"*{SUFFIX}") if _STEP_NAME.fullmatch(p.stem))
        for old in numbered[: -self.keep_last] if self.keep_last else []:
            if old != path:
                old.unlink()
        return path

    def names(self) -> dict[str, int]:
        """The name of every checkpoint and its step, oldest step first."""
        found = {path.stem: int(_metadata(path)["step"]) for path in self.folder.glob(f"*{SUFFIX}")}
        return dict(sorted(found.items(), key=lambda item: item[1]))

    def newest(self) -> Path | None:
        """The checkpoint with the highest step, or None where there is none yet."""
        names = list(self.names())
        return self.path(names[-1]) if names else None

    def path(self, name: str) -> Path:
        """Where the checkpoint `name` lies.

        Raises:
            DatasetError: there is none of this name.
        """
        path = self.folder / f"{name}{SUFFIX}"
        if not path.is_file():
            known = ", ".join(self.names()) or "none: the run saved nothing yet"
            raise DatasetError(f"{path}: there is no such checkpoint. Known in this run: {known}.")
        return path


def _metadata(path: Path) -> dict[str, str]:
    """The header of a checkpoint, without reading its tensors."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: there is no such checkpoint.") from error
    except (safetensors.SafetensorError, OSError) as error:
        raise _damaged(path, error) from error
    if metadata.get("schema") != SCHEMA or not {"step", "state"} <= metadata.keys():
        raise _damaged(path, f"its schema is {metadata.get('schema')!r}, not {SCHEMA!r}")
    return metadata


def _damaged(path: Path, reason: object) -> DatasetError:
    return DatasetError(
        f"{path}: this checkpoint is damaged or none of armchair's ({reason}). "
        "Delete the file: training then goes on from the checkpoint before it, or from the start."
    )


def _encode(value: Any, at: str, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON; tensors go into `tensors` under the path at which they stand."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Tensor):
        if at in tensors:
            raise TypeError(f"state {at}: two entries have this path")
        tensors[at] = value.detach().cpu().contiguous()
        return {"tensor": at}
    if isinstance(value, Mapping):
        return {"items": [[key, _encode(item, f"{at}/{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_encode(item, f"{at}/{index}", tensors) for index, item in enumerate(value)]}
    raise TypeError(f"state {at}: {type(value).__name__} cannot be stored in a checkpoint")


def _decode(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(node, dict):
        return node
    ((kind, content),) = node.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "items":
        return {key: _decode(item, tensors) for key, item in content}
    items = [_decode(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items


def rng_state() -> State:
    """The state of torch's global generators, for `restore_rng`."""
    state: State = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_rng(state: Mapping[str, Any]) -> None:
    """Put torch's global generators back to what `rng_state` returned."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state:
        torch.cuda.set_rng_state_all(state["cuda"])
