"""Reading prepared training files: the robomimic layout that `armchair prepare` writes, checked on reading.

    data/                  attributes: contract (YAML text), total, env_args
    data/demo_<i>/         obs/<stream> (T, …), next_obs/<stream>, actions (T, dim), rewards (T,),
                           terminated (T,), truncated (T,), labels/<labeller> (T,) with
                           label_valid/<labeller> (T,)
    mask/train, mask/valid names of demos

Without masks every demo is trained on. Only what is asked for has to be there. Pictures are not read but
found: they stay in the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from episodes.contract import Contract, parse_contract
from episodes.errors import DatasetError, did_you_mean
from episodes.frames import Maps, hdf5_frames
from policy.pictures import FilePictures

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
    ticks: NDArray[np.int64]
    """(T,): which transition of the episode each row is; numbers are missing where rows were left out."""
    frames: NDArray[np.int64]
    """(T,): the row of its pictures in the file's `FilePictures`."""
    expert: bool
    """Whether the episode is among the named experts."""
    unlabelled: int
    """Transitions left out for want of a reward."""

    def __len__(self) -> int:
        return len(self.rewards)


@dataclass(frozen=True)
class Prepared:
    """The demos of one file, by the split that they belong to."""

    contract: Contract
    streams: dict[str, int]
    """Width of every vector stream that was read, in order."""
    cameras: dict[str, tuple[int, int, int]]
    """(H, W, C) of every picture stream, in order."""
    pictures: FilePictures | None
    train: list[Demo]
    valid: list[Demo]


def read_prepared(
    path: Path, streams: Sequence[str], reward: str | None, *, expert: str | None = None
) -> Prepared:
    """Read a prepared file.

    Args:
        streams: streams of the contract; vectors are put side by side in this order.
        reward: the labeller whose rewards are read; "prepared" for the file's own `rewards`, None for zeros.
        expert: "success" for episodes whose outcome that is, or the name of a mask of the file.

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
        return _Reader(path, file, tuple(streams), reward, expert).read()


class _Reader:
    def __init__(
        self, path: Path, file: h5py.File, streams: tuple[str, ...], reward: str | None, expert: str | None
    ) -> None:
        self.path = path
        self.file = file
        self.reward = reward
        self.expert = expert
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
        shapes = {name: self._shape(name) for name in streams}
        self.streams = {name: shape[0] for name, shape in shapes.items() if len(shape) == 1}
        self.cameras = {name: shape for name, shape in shapes.items() if len(shape) == 3}
        if not shapes:
            known = ", ".join(self.contract.observations)
            raise DatasetError(f"{path}: no stream was asked for; known: {known}.")

    def read(self) -> Prepared:
        names = sorted((n for n in self.data if n.startswith("demo_")), key=_number)
        experts = self._experts(names)
        demos: dict[str, Demo] = {}
        rows = 0
        for name in names:
            demos[name] = self._demo(name, rows, name in experts)
            rows += len(demos[name]) + demos[name].unlabelled
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
            self.cameras,
            self._pictures(demos) if self.cameras else None,
            [demos[name] for name in train if name not in both],
            [demos[name] for name in valid],
        )

    def _shape(self, name: str) -> tuple[int, ...]:
        """(width,) of a vector stream or (H, W, C) of a camera."""
        stream = self.contract.observations.get(name)
        if stream is None:
            raise DatasetError(
                f"{self.path}: its contract has no observation stream {name!r}; "
                f"{did_you_mean(name, self.contract.observations)}"
            )
        if stream.is_image:
            if len(stream.shape) != 3 or stream.dtype != "uint8":
                raise DatasetError(
                    f"{self.path}: pictures of stream {name!r} are {stream.dtype} {list(stream.shape)}; "
                    "these networks take uint8 [height, width, channels]. Choose other streams with "
                    "--data.streams."
                )
        elif len(stream.shape) != 1:
            raise DatasetError(
                f"{self.path}: stream {name!r} has the shape {list(stream.shape)}; these networks take "
                "vectors and pictures. Choose other streams with --data.streams."
            )
        return tuple(int(size) for size in stream.shape)

    def _pictures(self, demos: dict[str, Demo]) -> FilePictures:
        lengths = [len(demo) + demo.unlabelled for demo in demos.values()]
        maps = Maps()
        sides = []
        for kind in ("obs", "next_obs"):
            for camera, shape in self.cameras.items():
                for name in demos:
                    found = self.data[name].get(f"{kind}/{camera}")
                    if not isinstance(found, h5py.Dataset):
                        raise DatasetError(
                            f"{self.path}: data/{name}/{kind}/{camera} is missing. Put the stream in with "
                            f"`armchair prepare --streams … {camera}`."
                        )
                    if found.shape[1:] != shape or found.dtype != np.uint8:
                        raise DatasetError(
                            f"{self.path}: data/{name}/{kind}/{camera} has pictures of {found.dtype} "
                            f"{list(found.shape[1:])}, the contract says uint8 {list(shape)}. {PREPARE_ANEW}"
                        )
            sides.append(
                tuple(
                    hdf5_frames(self.path, [self.data[n][f"{kind}/{camera}"] for n in demos], lengths, maps)
                    for camera in self.cameras
                )
            )
        return FilePictures(sides[0], sides[1], sum(lengths))

    def _experts(self, names: list[str]) -> set[str]:
        """The demos that are called expert."""
        if self.expert is None:
            return set()
        if self.expert == "success":
            return {n for n in names if self.data[n].attrs.get("outcome") == "success"}
        mask = self._mask(self.expert, dict.fromkeys(names))
        if mask is None:
            raise DatasetError(
                f"{self.path}: there is no mask/{self.expert}, so it is unknown which episodes are "
                "expert. Name a mask of the file with --data.expert, or take success for episodes with "
                "this outcome."
            )
        return set(mask)

    def _mask(self, split: str, demos: Mapping[str, object]) -> list[str] | None:
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

    def _demo(self, name: str, first: int, expert: bool) -> Demo:
        group = self.data[name]
        steps = len(self._array(group, "actions", self.contract.action_dim))

        def side_by_side(kind: str) -> NDArray[np.float32]:
            parts = [self._array(group, f"{kind}/{s}", width, steps) for s, width in self.streams.items()]
            return np.concatenate([np.zeros((steps, 0)), *parts], axis=1).astype(np.float32)

        rewards, valid = self._rewards(group, steps)
        demo = Demo(
            source=f"{self.path}: data/{name}",
            observations=side_by_side("obs")[valid],
            next_observations=side_by_side("next_obs")[valid],
            actions=self._array(group, "actions", self.contract.action_dim)[valid],
            rewards=rewards[valid],
            terminated=self._array(group, "terminated", None, steps)[valid].astype(np.bool_),
            truncated=self._array(group, "truncated", None, steps)[valid].astype(np.bool_),
            ticks=np.flatnonzero(valid),
            frames=first + np.flatnonzero(valid),
            expert=expert,
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
