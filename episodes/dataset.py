"""A dataset: a folder with `dataset.json`, `episodes/`, `labels/` and `edits.jsonl`."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py

from episodes.contract import Contract, check_compatible, parse_contract
from episodes.edit_log import EditLog
from episodes.edits import Edit
from episodes.errors import DatasetError, EpisodeError, did_you_mean
from episodes.layout import PARTIAL, SUFFIX, Attribute, damage, get_attributes
from episodes.partial import sync_folder
from episodes.reader import Episode
from episodes.writer import EpisodeWriter

SCHEMA = "armchair/dataset/1"
INDEX = "dataset.json"


@dataclass(frozen=True)
class EpisodeInfo:
    """What a listing shows of an episode, read from its attributes alone."""

    episode_id: str
    path: Path
    attrs: dict[str, Attribute]
    samples: dict[str, int]
    """Samples per stream, and of "commands"."""
    dropped: dict[str, int]
    """Samples that were lost while recording, per stream."""
    edit: Edit
    """What edits say of it; outcome and task in `attrs` are the edited ones."""

    @property
    def outcome(self) -> str:
        """success, failure or unknown."""
        return str(self.attrs["outcome"])


class Dataset:
    """A folder of episodes that share one robot contract."""

    def __init__(self, path: Path, index: dict[str, Any]) -> None:
        self.path = path
        self._index = index
        self._files: dict[str, Path] = {}
        self.edits = EditLog(path)

    @classmethod
    def create(cls, path: Path | str, contract: Contract) -> Dataset:
        """Make a new dataset folder.

        Raises:
            DatasetError: there is one already, or the folder cannot be made.
        """
        path = Path(path)
        if (path / INDEX).exists():
            raise DatasetError(
                f"{path}: there is a dataset already; choose another folder, or add to this one."
            )
        index: dict[str, Any] = {
            "schema": SCHEMA,
            "robot": contract.robot,
            "interface_sha256": contract.interface_sha256,
            "limits_sha256": contract.limits_sha256,
            "contract_source": contract.source,
            "contract": contract.text,
            "splits": {},
            "split_seed": None,
            "validation_fraction": None,
        }
        try:
            (path / "episodes").mkdir(parents=True, exist_ok=True)
            write_json(path / INDEX, index)
        except OSError as error:
            raise DatasetError(f"{path}: the dataset cannot be created ({error}).") from error
        return cls(path, index)

    @classmethod
    def open(cls, path: Path | str) -> Dataset:
        """Open a dataset folder.

        Raises:
            DatasetError: it is no dataset, or its index is damaged.
        """
        path = Path(path)
        file = path / INDEX
        try:
            index = json.loads(file.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError) as error:
            what = "an empty folder or no dataset" if path.is_dir() else "no such folder"
            raise DatasetError(
                f"{path}: {what} (there is no {INDEX}). Make one: armchair collect {path}"
            ) from error
        except (OSError, ValueError) as error:
            raise DatasetError(
                f"{file}: the index cannot be read ({error}). The episodes beside it are whole: restore the "
                "file, or collect into a new folder and move them there."
            ) from error
        if not isinstance(index, dict) or index.get("schema") != SCHEMA:
            raise DatasetError(f"{file}: the schema is not {SCHEMA!r}; it was written by another program.")
        missing = [key for key in ("contract", "interface_sha256", "splits") if key not in index]
        if missing:
            raise DatasetError(f"{file}: the key {missing[0]!r} is missing; restore the file.")
        return cls(path, index)

    @classmethod
    def open_or_create(cls, path: Path | str, contract: Contract) -> Dataset:
        """Open `path` to add episodes recorded with `contract`, making the folder if it is not there.

        Raises:
            ContractError: the dataset was made with another interface or with tighter limits.
        """
        if not (Path(path) / INDEX).exists():
            return cls.create(path, contract)
        dataset = cls.open(path)
        check_compatible(dataset.contract, contract)
        return dataset

    @cached_property
    def contract(self) -> Contract:
        """The contract that all episodes fit."""
        text, source = str(self._index["contract"]), str(self._index.get("contract_source", ""))
        contract = parse_contract(text, f"{self.path / INDEX} ({source})")
        if contract.interface_sha256 != self._index["interface_sha256"]:
            raise DatasetError(f"{self.path / INDEX}: the contract inside does not have the hash beside it.")
        return contract

    def ids(self) -> list[str]:
        """Ids of all finished episodes, sorted: the order of everything that is made from them."""
        self._files = self._scan()
        return sorted(self._files)

    def _scan(self) -> dict[str, Path]:
        files: dict[str, Path] = {}
        for path in sorted((self.path / "episodes").glob(f"*{SUFFIX}")):
            episode_id = path.name.removesuffix(SUFFIX).partition("_")[2]
            if not episode_id:
                raise DatasetError(f"{path}: an episode file is called <utc>_<id>{SUFFIX}: rename it.")
            if episode_id in files:
                raise DatasetError(
                    f"{path}: episode {episode_id!r} is there twice: remove it or {files[episode_id].name}."
                )
            files[episode_id] = path
        return files

    def partials(self) -> list[Path]:
        """Recordings that are under way or were never finished."""
        return sorted((self.path / "episodes").glob(f"*{PARTIAL}"))

    def file(self, episode_id: str) -> Path:
        """The file of a finished episode; DatasetError when there is none."""
        if not (episode_id in self._files and self._files[episode_id].exists()):
            self._files = self._scan()
        if episode_id not in self._files:
            raise DatasetError(
                f"{self.path}: there is no episode {episode_id!r}; {did_you_mean(episode_id, self._files)}"
            )
        return self._files[episode_id]

    def infos(self, *, edited: bool = True) -> list[EpisodeInfo]:
        """Every finished episode, sorted by id; with `edited`, without those that an edit excludes.

        Raises:
            EpisodeError: one of them is damaged, or belongs to another robot.
            DatasetError: the edits are damaged.
        """
        excluded = self.excluded() if edited else set()
        return [self.info(i, edited=edited) for i in self.ids() if i not in excluded]

    def excluded(self) -> set[str]:
        """Ids that an edit leaves out of `infos` and so of everything that is made from the dataset."""
        return {i for i, edit in self.edits.in_force().items() if edit.excluded}

    def info(self, episode_id: str, *, edited: bool = True) -> EpisodeInfo:
        """One finished episode (excluded ones too), without reading its samples; as recorded unless
        `edited`."""
        path = self.file(episode_id)
        edit = self.edits.in_force().get(episode_id, Edit()) if edited else Edit()
        with damage(path, "reading the attributes"), h5py.File(path, "r", locking=False) as file:
            attrs = get_attributes(file)
            groups = {**{str(name): group for name, group in file["streams"].items()}}
            groups["commands"] = file["commands"]
            counts = {name: get_attributes(group) for name, group in groups.items()}
            info = EpisodeInfo(
                episode_id=episode_id,
                path=path,
                attrs=attrs | edit.attributes(),
                samples={name: int(count["samples"]) for name, count in counts.items()},
                dropped={name: int(count["dropped"]) for name, count in counts.items()},
                edit=edit,
            )
            complete, outcome, inside = bool(attrs["complete"]), attrs["outcome"], attrs["episode_id"]
        if not complete or inside != episode_id or outcome not in ("success", "failure", "unknown"):
            raise EpisodeError(f"{path}: it is not complete, or was renamed from episode {inside!r}.")
        if attrs["interface_sha256"] != self._index["interface_sha256"]:
            raise EpisodeError(
                f"{path}: it was recorded with another robot contract than this dataset; move it to its own."
            )
        return info

    def read(self, episode_id: str) -> Episode:
        """Open a finished episode with its edits; close it after use."""
        edit = self.edits.in_force().get(episode_id, Edit())
        return apply_edit(Episode.open(self.file(episode_id)), edit)

    def new_writer(self, **settings: Any) -> EpisodeWriter:
        """A writer for a new episode of this dataset; `settings` as for EpisodeWriter.

        `contract` may be given where the recording robot's limits are tighter than the dataset's.
        """
        contract = settings.pop("contract", None)
        if contract is None:
            contract = self.contract
        else:
            check_compatible(self.contract, contract)
        return EpisodeWriter(self.path, contract, **settings)

    @property
    def splits(self) -> dict[str, list[str]]:
        """Episode ids by split, {} before `set_splits`."""
        return {str(name): [str(i) for i in ids] for name, ids in self._index["splits"].items()}

    def set_splits(
        self,
        seed: int,
        validation_fraction: float,
        *,
        groups: Mapping[str, str] | None = None,
        by: str = "episode",
    ) -> dict[str, list[str]]:
        """Divide the finished episodes that no edit excludes into train and valid, and remember it.

        `groups` maps their ids to groups that stay together, and `by` says what the groups are.
        """
        excluded = self.excluded()
        ids = [episode_id for episode_id in self.ids() if episode_id not in excluded]
        splits = split_ids(ids, seed, validation_fraction, groups)
        index = {
            **self._index,
            "splits": splits,
            "split_seed": seed,
            "split_by": by,
            "validation_fraction": validation_fraction,
        }
        try:
            write_json(self.path / INDEX, index)
        except OSError as error:
            raise DatasetError(f"{self.path / INDEX}: the splits cannot be written ({error}).") from error
        self._index = index
        return splits


def apply_edit(episode: Episode, edit: Edit) -> Episode:
    """Let `episode` read as `edit` says: outcome, task and the part that alignment takes."""
    episode.attrs |= edit.attributes()
    episode.window_ns = edit.window_ns(int(episode.attrs["started_ns"]))
    return episode


def split_ids(
    ids: Iterable[str],
    seed: int,
    validation_fraction: float,
    groups: Mapping[str, str] | None = None,
) -> dict[str, list[str]]:
    """Divide ids into train and valid; which comes where depends on seed and id, not on numpy or on order.

    Ids of one group (the id itself where `groups` has none) stay together: groups go to valid in a random
    order as long as that brings its size nearer to the fraction. With two groups or more, and a fraction
    above 0, both sides get at least one.

    Raises:
        DatasetError: the fraction is not in [0, 1).
    """
    if not 0.0 <= validation_fraction < 1.0:
        raise DatasetError(f"validation fraction {validation_fraction}: write a number from 0 to below 1.")
    members: dict[str, list[str]] = {}
    for episode_id in ids:
        members.setdefault((groups or {}).get(episode_id, episode_id), []).append(episode_id)
    ordered = sorted(members, key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest())
    wanted = round(sum(map(len, members.values())) * validation_fraction)
    valid: list[str] = []
    if len(ordered) > 1 and validation_fraction > 0.0:
        # The last one stays for training, whatever the fraction.
        for group in ordered[:-1]:
            if abs(len(valid) + len(members[group]) - wanted) < abs(len(valid) - wanted):
                valid += members[group]
        valid = valid or list(members[min(ordered, key=lambda group: len(members[group]))])
    everyone = {episode_id for ids_of in members.values() for episode_id in ids_of}
    return {"train": sorted(everyone - set(valid)), "valid": sorted(valid)}


def write_json(path: Path, value: object) -> None:
    """Replace `path` by `value` as JSON, all or nothing."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, sort_keys=True)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    sync_folder(path.parent)


def usable(dataset: Dataset) -> list[EpisodeInfo]:
    """All episodes, of which there must be at least one: the guard of everything that reads a dataset."""
    infos = dataset.infos()
    if infos:
        return infos
    if count := len(dataset.ids()):
        raise DatasetError(
            f"{dataset.path}: all {count} episodes are excluded by edits. See them: "
            f"armchair episodes edit list {dataset.path}"
        )
    hint = f"Collect some: armchair collect {dataset.path}"
    if partials := dataset.partials():
        hint = f"There are {len(partials)} unfinished recordings: armchair episodes recover {partials[0]}"
    raise DatasetError(f"{dataset.path}: the dataset holds no finished episode. {hint}")
