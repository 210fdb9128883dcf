"""Features of pictures by any frozen encoder, kept on disk by content.

A feature depends on the picture's content and the encoder's identity and on nothing else, so it is stored
under both: equal frames are encoded once, a changed encoder never meets old features, and a run that was
interrupted goes on where it stood. The store is one SQLite file with a table of float32 bytes: a kill leaves
the committed batches, and nothing in it can run code when it is read.
"""

from __future__ import annotations

import hashlib
import queue
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from episodes.errors import ConfigError, DatasetError
from reward.encoders import ImageEncoder

FILE = "embeddings.sqlite"
_ASKED_AT_ONCE = 500
"""Keys in one query; SQLite's own limit is 999 in old builds."""
_HELD_BACK = 2
"""Batches in flight per encoder, so that one is ready when another is done and memory stays bounded."""


class EmbeddingCache:
    """Features in one SQLite file in WAL mode; a context manager. Processes may open it at once."""

    def __init__(self, path: Path) -> None:
        """Open or create `path`.

        Raises:
            DatasetError: it cannot be opened, or is no such file.
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=30.0, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS encoders (id INTEGER PRIMARY KEY, identity TEXT UNIQUE NOT NULL)"
            )
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS features (encoder INTEGER NOT NULL, content BLOB NOT NULL, "
                "vector BLOB NOT NULL, PRIMARY KEY (encoder, content)) WITHOUT ROWID"
            )
        except (sqlite3.Error, OSError) as error:
            raise DatasetError(
                f"{path}: the cache of features cannot be opened ({error}). {_MEND}"
            ) from error

    def __enter__(self) -> EmbeddingCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def known(self, identity: str, contents: Sequence[bytes], dim: int) -> dict[bytes, NDArray[np.float32]]:
        """Features (dim,) of those of `contents` that are there; one of another length is not.

        Raises:
            DatasetError: the file is damaged.
        """
        found: dict[bytes, NDArray[np.float32]] = {}
        try:
            for start in range(0, len(contents), _ASKED_AT_ONCE):
                part = contents[start : start + _ASKED_AT_ONCE]
                rows = self._db.execute(
                    "SELECT content, vector FROM features JOIN encoders ON encoder = id WHERE identity = ? "
                    f"AND content IN ({','.join('?' * len(part))})",
                    (identity, *part),
                )
                for content, vector in rows:
                    if len(vector) == 4 * dim:
                        found[content] = np.frombuffer(vector, "<f4").astype(np.float32)
        except sqlite3.Error as error:
            raise DatasetError(f"{self.path}: the cache of features is damaged ({error}). {_MEND}") from error
        return found

    def add(self, identity: str, contents: Sequence[bytes], vectors: NDArray[np.float32]) -> None:
        """Keep `vectors` (n, dim), all or none.

        Raises:
            DatasetError: they cannot be written.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.execute("INSERT OR IGNORE INTO encoders (identity) VALUES (?)", (identity,))
                number = self._db.execute(
                    "SELECT id FROM encoders WHERE identity = ?", (identity,)
                ).fetchone()
                self._db.executemany(
                    "INSERT OR REPLACE INTO features VALUES (?, ?, ?)",
                    [
                        (number[0], content, vector.astype("<f4").tobytes())
                        for content, vector in zip(contents, vectors, strict=True)
                    ],
                )
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise DatasetError(
                f"{self.path}: features cannot be written ({error}). Make room, or leave the cache out."
            ) from error


_MEND = "Remove it: features are computed anew."


def content_key(image: NDArray[np.uint8]) -> bytes:
    """sha256 over shape and pixels of a picture (height, width, 3)."""
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()


def embed(
    images: NDArray[np.uint8],
    encoders: Sequence[ImageEncoder],
    *,
    batch: int,
    cache: EmbeddingCache | None = None,
    rows: NDArray[np.integer] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Features of pictures, each distinct one encoded once.

    Args:
        images: (n, height, width, 3) RGB; may be mapped from a file, it is read batch by batch.
        encoders: replicas of one encoder, one per device; each works in a thread of its own and takes the
            next batch when it is done, so unequal devices share the work unevenly.
        batch: pictures that an encoder gets at once.
        cache: where features are looked up and kept after every batch.
        rows: the pictures to encode, all when left out.
        progress: called with (pictures done, pictures in all).

    Returns:
        (len(rows), dim) float32, in the order of `rows`.

    Raises:
        ConfigError: no encoder, replicas that differ, or a feature that is not finite.
        DatasetError: the cache is damaged.
    """
    if not encoders or batch < 1:
        raise ConfigError(f"{len(encoders)} encoders and batches of {batch}: at least one of each is needed.")
    identity, dim = encoders[0].identity, encoders[0].dim
    if any(encoder.identity != identity for encoder in encoders):
        raise ConfigError("the encoders are not replicas of one: their features cannot be mixed.")
    wanted = np.arange(len(images)) if rows is None else np.asarray(rows)
    contents = [content_key(images[row]) for row in wanted]
    first: dict[bytes, int] = {}
    for row, content in zip(wanted.tolist(), contents, strict=True):
        first.setdefault(content, row)
    features = {} if cache is None else cache.known(identity, list(first), dim)
    missing = [(content, row) for content, row in first.items() if content not in features]
    done = len(first) - len(missing)
    batches = [missing[start : start + batch] for start in range(0, len(missing), batch)]
    if progress is not None:
        progress(done, len(first))
    for part, vectors in _spread(images, batches, encoders):
        _check(vectors, len(part), dim, identity)
        keys = [content for content, _ in part]
        if cache is not None:
            cache.add(identity, keys, vectors)
        features.update(zip(keys, vectors, strict=True))
        done += len(part)
        if progress is not None:
            progress(done, len(first))
    out = np.empty((len(contents), dim), np.float32)
    for k, content in enumerate(contents):
        out[k] = features[content]
    return out


Batch = list[tuple[bytes, int]]


def _spread(
    images: NDArray[np.uint8], batches: Sequence[Batch], encoders: Sequence[ImageEncoder]
) -> Iterator[tuple[Batch, NDArray[np.float32]]]:
    """Batches with their features, as they come; the first failure ends all, after what was under way."""
    if len(encoders) == 1:
        for part in batches:
            yield part, encoders[0].encode(images[[row for _, row in part]])
        return
    idle: queue.SimpleQueue[ImageEncoder] = queue.SimpleQueue()
    for encoder in encoders:
        idle.put(encoder)

    def work(part: Batch) -> tuple[Batch, NDArray[np.float32]]:
        encoder = idle.get()
        try:
            return part, encoder.encode(images[[row for _, row in part]])
        finally:
            idle.put(encoder)

    pool = ThreadPoolExecutor(len(encoders), thread_name_prefix="encoder")
    running: set[Future[tuple[Batch, NDArray[np.float32]]]] = set()
    failure: BaseException | None = None
    left = iter(batches)
    try:
        while failure is None:
            running |= {
                pool.submit(work, part) for part in islice(left, _HELD_BACK * len(encoders) - len(running))
            }
            if not running:
                return
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                if (error := future.exception()) is not None:
                    failure = failure or error
                else:
                    yield future.result()
        # What other devices had done or were at when one failed is paid for: it is handed out before the
        # failure is.
        for future in wait({future for future in running if not future.cancel()}).done:
            if future.exception() is None:
                yield future.result()
        raise failure
    finally:
        pool.shutdown(cancel_futures=True)


def _check(vectors: NDArray[np.float32], count: int, dim: int, identity: str) -> None:
    if vectors.shape != (count, dim):
        raise ConfigError(
            f"encoder {identity}: gave features of shape {vectors.shape} for {count} pictures, where "
            f"{(count, dim)} belongs."
        )
    if not np.isfinite(vectors).all():
        raise ConfigError(
            f"encoder {identity}: gave features that are not finite. In fp16 large activations overflow: "
            "take bf16 or fp32; else the weights are damaged."
        )
