"""Films that players open and strips that show an episode at a glance."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from episodes.errors import ConfigError
from sim.video import filmstrip, write_filmstrip, write_video


def frames(count: int, height: int, width: int) -> NDArray[np.uint8]:
    """A bright square that wanders from left to right."""
    film = np.full((count, height, width, 3), 40, dtype=np.uint8)
    for i in range(count):
        left = i * (width - 8) // max(count - 1, 1)
        film[i, 4:12, left : left + 8] = (250, 120, 10)
    return film


def _read(path: Path) -> tuple[list[NDArray[np.uint8]], float]:
    capture = cv2.VideoCapture(str(path))
    pictures = []
    while True:
        there, picture = capture.read()
        if not there:
            break
        pictures.append(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
    return pictures, capture.get(cv2.CAP_PROP_FPS)


@pytest.mark.parametrize("encoder", ["imageio_ffmpeg", "av"])
def test_a_film_holds_the_frames_at_the_asked_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str
) -> None:
    if encoder == "av":
        _hide(monkeypatch, "imageio_ffmpeg")
    film = frames(30, 84, 85)
    read, fps = _read(write_video(film, tmp_path / "new" / "film.mp4", fps=25.0))
    assert len(read) == 30
    assert fps == pytest.approx(25.0)
    assert read[0].shape == (84, 86, 3)
    difference = np.abs(np.stack(read)[:, :, :85].astype(int) - film)
    assert difference.mean() < 6
    assert abs(int(read[-1][8, 81, 0]) - 250) < 60, "red stays red"


def _hide(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name == module:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)


def test_a_strip_shows_first_and_last_frame_and_evenly_between(tmp_path: Path) -> None:
    film = frames(151, 20, 30)
    strip = filmstrip(film, count=6)
    assert strip.shape == (20, 6 * 32 - 2, 3)
    np.testing.assert_array_equal(strip[:, :30], film[0])
    np.testing.assert_array_equal(strip[:, -30:], film[150])
    np.testing.assert_array_equal(strip[:, 32:62], film[30])
    path = write_filmstrip(film, tmp_path / "strip.png", count=6, columns=3)
    picture = cv2.imread(str(path))
    assert picture.shape == (2 * 22 - 2, 3 * 32 - 2, 3)


def test_a_strip_of_few_frames_shows_each_once() -> None:
    assert filmstrip(frames(2, 20, 30), count=8).shape == (20, 62, 3)


def test_frames_that_are_none_or_uneven_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no frames"):
        write_video([], tmp_path / "film.mp4")
    uneven = [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 6, 3), np.uint8)]
    with pytest.raises(ConfigError, match="one size"):
        filmstrip(uneven)
    with pytest.raises(ConfigError, match="1 or more"):
        filmstrip(frames(2, 8, 9), count=0)
