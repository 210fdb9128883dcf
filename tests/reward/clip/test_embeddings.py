"""Features: each distinct picture once, kept by content, whatever interrupts and however many devices."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from episodes.errors import ConfigError, DatasetError
from reward.embeddings import EmbeddingCache, content_key, embed


class Means:
    """Features are the mean colour; counts what it is asked."""

    def __init__(self, identity: str = "means", fail_after: int | None = None) -> None:
        self.identity, self.dim = identity, 3
        self.seen = 0
        self._left = fail_after

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self._left is not None:
            if self._left == 0:
                raise KeyboardInterrupt
            self._left -= 1
        self.seen += len(images)
        return images.mean(axis=(1, 2)).astype(np.float32)


@pytest.fixture
def images() -> NDArray[np.uint8]:
    """(23, 4, 5, 3): 20 distinct pictures and 3 that are there twice."""
    distinct = np.random.default_rng(0).integers(0, 256, (20, 4, 5, 3), np.uint8)
    return np.concatenate([distinct, distinct[[3, 3, 7]]])


def wanted(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return images.mean(axis=(1, 2)).astype(np.float32)


def test_equal_pictures_are_encoded_once_and_come_back_in_order(images: NDArray[np.uint8]) -> None:
    encoder = Means()
    rows = np.array([22, 0, 20, 21, 5])
    assert embed(images, [encoder], batch=4) == pytest.approx(wanted(images))
    assert encoder.seen == 20
    assert embed(images, [encoder], batch=2, rows=rows) == pytest.approx(wanted(images[rows]))
    assert encoder.seen == 20 + 4


def test_what_is_kept_is_not_encoded_again(images: NDArray[np.uint8], tmp_path: Path) -> None:
    path = tmp_path / "deep" / "embeddings.sqlite"
    with EmbeddingCache(path) as cache:
        embed(images[:12], [Means()], batch=5, cache=cache)
    again = Means()
    with EmbeddingCache(path) as cache:
        assert embed(images, [again], batch=5, cache=cache) == pytest.approx(wanted(images))
    assert again.seen == 8


def test_an_interrupted_run_goes_on_where_it_stood(images: NDArray[np.uint8], tmp_path: Path) -> None:
    path = tmp_path / "embeddings.sqlite"
    with pytest.raises(KeyboardInterrupt), EmbeddingCache(path) as cache:
        embed(images, [Means(fail_after=3)], batch=4, cache=cache)
    rest = Means()
    reports: list[tuple[int, int]] = []
    with EmbeddingCache(path) as cache:
        embed(images, [rest], batch=4, cache=cache, progress=lambda *at: reports.append(at))
    assert rest.seen == 20 - 12
    assert reports == [(12, 20), (16, 20), (20, 20)]


def test_another_model_never_meets_old_features(images: NDArray[np.uint8], tmp_path: Path) -> None:
    with EmbeddingCache(tmp_path / "embeddings.sqlite") as cache:
        embed(images, [Means("one")], batch=8, cache=cache)
        other = Means("two")
        embed(images, [other], batch=8, cache=cache)
    assert other.seen == 20


def test_the_key_is_shape_and_pixels() -> None:
    flat = np.arange(24, dtype=np.uint8)
    assert content_key(flat.reshape(2, 4, 3)) != content_key(flat.reshape(4, 2, 3))
    assert content_key(flat.reshape(2, 4, 3)) == content_key(flat.reshape(2, 4, 3).copy(order="F"))


def test_a_feature_of_another_length_counts_as_missing(images: NDArray[np.uint8], tmp_path: Path) -> None:
    with EmbeddingCache(tmp_path / "embeddings.sqlite") as cache:
        cache.add("means", [content_key(images[0])], np.zeros((1, 7), np.float32))
        assert embed(images[:1], [Means()], batch=1, cache=cache) == pytest.approx(wanted(images[:1]))


def test_a_file_that_is_no_cache_is_named_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "embeddings.sqlite"
    path.write_bytes(b"not a database, certainly not one of SQLite's" * 100)
    with pytest.raises(DatasetError, match="Remove it"):
        EmbeddingCache(path)


def test_nothing_but_numbers_is_stored(images: NDArray[np.uint8], tmp_path: Path) -> None:
    path = tmp_path / "embeddings.sqlite"
    with EmbeddingCache(path) as cache:
        embed(images[:1], [Means()], batch=1, cache=cache)
    with sqlite3.connect(path) as database:
        (vector,) = database.execute("SELECT vector FROM features").fetchone()
    database.close()
    assert np.frombuffer(vector, "<f4") == pytest.approx(wanted(images[:1])[0])


class Meeting(Means):
    """Encodes only once another device encodes too."""

    barrier = threading.Barrier(2)

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self.seen == 0:
            self.barrier.wait(timeout=60)
        return super().encode(images)


def test_devices_work_at_once_and_the_order_stands(images: NDArray[np.uint8], tmp_path: Path) -> None:
    replicas = [Meeting(), Meeting()]
    with EmbeddingCache(tmp_path / "embeddings.sqlite") as cache:
        assert embed(images, replicas, batch=3, cache=cache) == pytest.approx(wanted(images))
    assert sum(replica.seen for replica in replicas) == 20
    assert min(replica.seen for replica in replicas) > 0


def test_a_device_that_fails_ends_the_run_and_keeps_what_was_done(
    images: NDArray[np.uint8], tmp_path: Path
) -> None:
    class Broken(Means):
        def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            if self.seen:
                raise RuntimeError("CUDA error: out of memory")
            return super().encode(images)

    path = tmp_path / "embeddings.sqlite"
    replicas = [Broken(), Broken()]
    with pytest.raises(RuntimeError, match="out of memory"), EmbeddingCache(path) as cache:
        embed(images, replicas, batch=2, cache=cache)
    rest = Means()
    with EmbeddingCache(path) as cache:
        embed(images, [rest], batch=2, cache=cache)
    kept = sum(replica.seen for replica in replicas)
    assert kept > 0
    assert rest.seen == 20 - kept


def test_replicas_that_differ_are_refused(images: NDArray[np.uint8]) -> None:
    with pytest.raises(ConfigError, match="not replicas of one"):
        embed(images, [Means("one"), Means("two")], batch=2)


def test_features_that_are_not_finite_or_too_few_are_refused(images: NDArray[np.uint8]) -> None:
    class Overflowing(Means):
        def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            return np.full((len(images), 3), np.inf, np.float32)

    class Short(Means):
        def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            return np.zeros((1, 3), np.float32)

    with pytest.raises(ConfigError, match="take bf16 or fp32"):
        embed(images, [Overflowing()], batch=2)
    with pytest.raises(ConfigError, match="belongs"):
        embed(images, [Short()], batch=2)
