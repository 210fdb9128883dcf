"""Opening a bag: one storage file, or a rosbag2 folder of them, with or without metadata.yaml.

A recorder that was killed leaves no metadata.yaml, so the folder's files are what counts; what metadata.yaml
says on top (order, number of messages) is held against what was found.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from backports import zstd

from episodes.bags.mcap_salvage import McapFile
from episodes.bags.records import BagError, BagFile, Record
from episodes.bags.sqlite_salvage import SqliteFile, message_counts

_STORAGE: dict[str, Callable[[Path], BagFile]] = {".mcap": McapFile, ".db3": SqliteFile}
_METADATA = "metadata.yaml"


class Bag(AbstractContextManager["Bag"]):
    """A bag open for reading; a context manager, since a file packed as a whole is unpacked for it."""

    def __init__(self, path: Path | str) -> None:
        """Open `path`, a storage file or a folder.

        Raises:
            BagError: there is no bag, or none that can be read.
        """
        self.path = Path(path)
        self.damage: list[str] = []
        self._stack = ExitStack()
        self._expected: dict[str, int] = {}
        try:
            self._files = [self._open(file) for file in self._storage_files()]
            self.topics = self._topics()
            self._opening = tuple(self.damage)
        except BaseException:
            self._stack.close()
            raise

    def _storage_files(self) -> list[Path]:
        if self.path.is_file():
            if storage_suffix(self.path) is None:
                hint = " Convert it first: rosbags-convert" if self.path.suffix == ".bag" else ""
                raise BagError(f"{self.path}: a bag is an .mcap or .db3 file, or a folder of them.{hint}")
            return [self.path]
        if not self.path.is_dir():
            raise BagError(f"{self.path}: there is no such bag.")
        found = sorted((f for f in self.path.iterdir() if storage_suffix(f) is not None), key=_natural)
        listed = self._metadata()
        for name in listed:
            if not any(file.name.startswith(name) or name.startswith(file.name) for file in found):
                self.damage.append(f"{self.path}: {name} is listed in {_METADATA} but is not there")
        if not found:
            raise BagError(f"{self.path}: there is no .mcap or .db3 file in this folder.")
        return found

    def _metadata(self) -> list[str]:
        """Names of the files that metadata.yaml lists; remembers how many messages each should hold."""
        path = self.path / _METADATA
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            self.damage.append(f"{self.path}: there is no {_METADATA}: the recorder did not end in order")
            return []
        except (OSError, UnicodeDecodeError) as error:
            self.damage.append(f"{path}: cannot be read ({error})")
            return []
        try:
            top: Any = yaml.safe_load(text)
            names = [Path(str(n)).name for n in top["rosbag2_bagfile_information"]["relative_file_paths"]]
            self._expected = message_counts(top)
        except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
            self.damage.append(f"{path}: is damaged ({' '.join(str(error).split())})")
            return []
        return names

    def _open(self, path: Path) -> BagFile:
        suffix = storage_suffix(path)
        if path.suffix == ".zstd":
            folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="armchair-bag-"))
            unpacked = Path(folder) / path.name.removesuffix(".zstd")
            with zstd.open(path, "rb") as packed, unpacked.open("wb") as file:
                try:
                    shutil.copyfileobj(packed, file, 1 << 20)
                except (zstd.ZstdError, EOFError) as error:
                    self.damage.append(f"{path}: unpacking stops early ({error})")
            path = unpacked
        return _STORAGE[suffix or ".mcap"](path)

    def _topics(self) -> dict[str, str]:
        """Message type of each topic over all files; a file that cannot be read is told."""
        topics: dict[str, str] = {}
        readable = []
        errors = []
        for file in self._files:
            try:
                for topic, kind in file.topics().items():
                    topics.setdefault(topic, _full_name(kind))
                readable.append(file)
            except (BagError, OSError) as error:
                errors.append(str(error))
        if not readable:
            raise BagError(" ".join(errors))
        self.damage += errors
        self._files = readable
        return topics

    def records(self, topics: Collection[str]) -> Iterator[Record]:
        """Messages of these topics, file by file in the order of recording; `damage` grows on the way.

        May be begun again from the start.
        """
        self.damage = list(self._opening)
        wanted = frozenset(topics)
        seen: Counter[str] = Counter()
        declared: Counter[str] = Counter()
        for file in self._files:
            yield from file.records(wanted)
            self.damage += file.damage
            seen += file.seen
            declared += Counter(file.declared)
        for topic in sorted(wanted):
            there = max(declared[topic], self._expected.get(topic, 0))
            if seen[topic] < there:
                self.damage.append(
                    f"{self.path}: {there - seen[topic]} of {there} messages of {topic} are missing"
                )

    @property
    def nbytes(self) -> int:
        """Size of all files together."""
        return sum(file.path.stat().st_size for file in self._files)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def storage_suffix(path: Path) -> str | None:
    """.mcap or .db3 for a storage file (which may be packed as a whole), else None."""
    suffix = path.with_suffix("").suffix if path.suffix == ".zstd" else path.suffix
    return suffix if suffix in _STORAGE else None


def _full_name(kind: str) -> str:
    """`sensor_msgs/msg/Image`, also where the bag says `sensor_msgs/Image`."""
    parts = kind.split("/")
    return f"{parts[0]}/msg/{parts[1]}" if len(parts) == 2 else kind


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort key by which bag_10 comes behind bag_9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]
