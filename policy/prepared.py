"""Reading prepared training files: the robomimic layout that `armchair prepare` writes, checked on reading.

    data/                  attributes: contract (YAML text), total, env_args
    data/demo_<i>/         obs/<stream> (T, …), next_obs/<stream>, actions (T, dim), rewards (T,),
                           terminated (T,), truncated (T,), labels/<labeller> (T,) with
                           label_valid/<labeller> (T,)
    mask/train, mask/valid names of demos

Without masks every demo is trained on. Only what is asked for has to be there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from episodes.contract import Contract, parse_contract
from episodes.errors import DatasetError, did_you_mean

PREPARE_ANEW = "Write the file anew with `armchair prepare`."


@dataclass(frozen=True)
class Demo:
    """T transitions of one episode; transition t leads from `observations[t]` to `next_observations[t]`.

    Transitions that the labeller left without a valid reward are not among them.
    """

    source: str
    """File and group, for messages."""
    observations: NDArray[np.float32]
    """(T, D), the streams side by side."""
    next_observations: NDArray[np.float32]
    actions: NDArray[np.float64]
    """(T, dim) in the contract's units."""
    rewards: NDArray[np.float64]
    """(T,), of the frame that was reached."""
    terminated: NDArray[np.bool_]
    """(T,): the task ended here, nothing comes after."""
    truncated: NDArray[np.bool_]
    """(T,): only the recording ended here."""
    unlabelled: int
    """Transitions left out for want of a reward."""

    def __len__(self) -> int:
        return len(self.rewards)


@dataclass(frozen=True)
class Prepared:
    """The demos of one file, by the split that they belong to."""

    contract: Contract
    streams: dict[str, int]
    """Width of every stream that was read, in order."""
    train: list[Demo]
    valid: list[Demo]


def read_prepared(path: Path, streams: Sequence[str], reward: str | None) -> Prepared:
    """Read a prepared file.

    Args:
        streams: vector streams of the contract, put side by side in this order.
        reward: the labeller whose rewards are read; "prepared" for the file's own `rewards`, None for zeros.

    Raises:
        DatasetError: naming file, group, dataset, step and what to do: no HDF5 file, nothing in it, a dataset
            that is missing or has the wrong length or width, or numbers that are not finite.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DatasetError(
            f"{path}: this prepared file cannot be opened ({error}). Give the file that `armchair prepare` "
            "wrote."
        ) from error
    with file:
        return _Reader(path, file, tuple(streams), reward).read()


class _Reader:
    def __init__(self, path: Path, file: h5py.File, streams: tuple[str, ...], reward: str | None) -> None:
        self.path = path
        self.file = file
        self.reward = reward
        data = file.get("data")
        if not isinstance(data, h5py.Group) or not any(name.startswith("demo_") for name in data):
            raise DatasetError(
                f"{path}: there is no episode in it (no group data/demo_0). Record or collect episodes, "
                "then run `armchair prepare`."
            )
        self.data = data
        text = data.attrs.get("contract")
        if not isinstance(text, str):
            raise DatasetError(
                f"{path}: the attribute 'contract' of /data is missing, so the units and limits of its "
                f"actions are unknown. {PREPARE_ANEW}"
            )
        self.contract = parse_contract(text, f"{path} (attribute contract)")
        self.streams = {name: self._width(name) for name in streams}
        if not self.streams:
            known = ", ".join(self.contract.observations)
            raise DatasetError(f"{path}: no stream was asked for; known: {known}.")

    def read(self) -> Prepared:
        demos = {
            name: self._demo(name)
            for name in sorted((n for n in self.data if n.startswith("demo_")), key=_number)
        }
        masks = {split: self._mask(split, demos) for split in ("train", "valid")}
        train = list(demos) if masks["train"] is None else masks["train"]
        valid = masks["valid"] or []
        both = set(train) & set(valid)
        if both and masks["train"] is not None:
            raise DatasetError(
                f"{self.path}: {sorted(both)[0]} is in mask/train and in mask/valid, so validation would see "
                f"what was trained on. {PREPARE_ANEW}"
            )
        return Prepared(
            self.contract,
            self.streams,
            [demos[name] for name in train if name not in both],
            [demos[name] for name in valid],
        )

    def _width(self, name: str) -> int:
        stream = self.contract.observations.get(name)
        if stream is None:
            raise DatasetError(
                f"{self.path}: its contract has no observation stream {name!r}; "
                f"{did_you_mean(name, self.contract.observations)}"
            )
        if stream.is_image or len(stream.shape) != 1:
            raise DatasetError(
                f"{self.path}: stream {name!r} has the shape {list(stream.shape)}; these networks take "
                "vectors only. Choose vector streams with --data.streams."
            )
        return int(stream.shape[0])

    def _mask(self, split: str, demos: dict[str, Demo]) -> list[str] | None:
        mask = self.file.get(f"mask/{split}")
        if mask is None:
            return None
        names = [str(name) for name in mask.asstr()[:]]
        for name in names:
            if name not in demos:
                raise DatasetError(
                    f"{self.path}: mask/{split} names {name!r}, which is not in /data. " + PREPARE_ANEW
                )
        return names

    def _demo(self, name: str) -> Demo:
        group = self.data[name]
        steps = len(self._array(group, "actions", self.contract.action_dim))

        def side_by_side(kind: str) -> NDArray[np.float32]:
            parts = [self._array(group, f"{kind}/{s}", width, steps) for s, width in self.streams.items()]
            return np.concatenate(parts, axis=1).astype(np.float32)

        rewards, valid = self._rewards(group, steps)
        demo = Demo(
            source=f"{self.path}: data/{name}",
            observations=side_by_side("obs")[valid],
            next_observations=side_by_side("next_obs")[valid],
            actions=self._array(group, "actions", self.contract.action_dim)[valid],
            rewards=rewards[valid],
            terminated=self._array(group, "terminated", None, steps)[valid].astype(np.bool_),
            truncated=self._array(group, "truncated", None, steps)[valid].astype(np.bool_),
            unlabelled=int((~valid).sum()),
        )
        if steps == 0:
            raise DatasetError(f"{demo.source} has no step. {PREPARE_ANEW}")
        return demo

    def _rewards(self, group: h5py.Group, steps: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """The chosen reward (T,), and where it is valid (T,)."""
        valid = np.ones(steps, np.bool_)
        if self.reward is None:
            return np.zeros(steps), valid
        if self.reward == "prepared":
            return self._array(group, "rewards", None, steps), valid
        labels = group.get("labels", {})
        if self.reward not in labels:
            raise DatasetError(
                f"{self.path}: {group.name.lstrip('/')} has no rewards by {self.reward!r}; "
                f"{did_you_mean(self.reward, labels)} Label every episode (`armchair relabel`), then run "
                "`armchair prepare` again."
            )
        if f"label_valid/{self.reward}" in group:
            valid = self._array(group, f"label_valid/{self.reward}", None, steps).astype(np.bool_)
        return self._array(group, f"labels/{self.reward}", None, steps, where=valid), valid

    def _array(
        self,
        group: h5py.Group,
        name: str,
        width: int | None,
        steps: int | None = None,
        where: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.float64]:
        """A dataset as float64, (T, width) or (T,), all finite, or all of rows `where`."""
        shown_name = f"{self.path}: {group.name.lstrip('/')}/{name}"
        dataset = group.get(name)
        if not isinstance(dataset, h5py.Dataset):
            raise DatasetError(f"{shown_name} is missing. {PREPARE_ANEW}")
        shape: tuple[int | None, ...] = (steps,) if width is None else (steps, width)
        if len(dataset.shape) != len(shape) or any(
            want is not None and found != want for found, want in zip(dataset.shape, shape, strict=True)
        ):
            shown = ["steps" if size is None else size for size in shape]
            raise DatasetError(
                f"{shown_name} has the shape {list(dataset.shape)}, but the contract and the other datasets "
                f"of this episode ask for {shown}. {PREPARE_ANEW}"
            )
        values: NDArray[Any] = dataset.astype(np.float64)[:]
        finite = np.isfinite(values)
        bad = np.argwhere(~finite if where is None else ~finite & where)
        if len(bad):
            step, *entry = (int(i) for i in bad[0])
            column = f", entry {entry[0]}" if entry else ""
            raise DatasetError(
                f"{shown_name} is {values[tuple(bad[0])]} at step {step}{column} "
                f"({len(bad)} such numbers in all). Remove the episode from the dataset or repair its "
                "source, then run `armchair prepare` again."
            )
        return values


def _number(demo: str) -> tuple[int, str]:
    """demo_10 comes after demo_9."""
    digits = demo.removeprefix("demo_")
    return (int(digits) if digits.isdecimal() else 0, demo)
