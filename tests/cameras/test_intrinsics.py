"""Calibration files as ROS's calibrator writes them, both ways, and clear words for those that are not."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.errors import ConfigError
from ros_nodes.cameras.frames import parse_profile
from ros_nodes.cameras.intrinsics import Intrinsics, calibration_path, load_calibration, save_calibration

CALIBRATOR = """\
image_width: 640
image_height: 480
camera_name: front
camera_matrix:
  rows: 3
  cols: 3
  data: [610.5, 0., 320.25, 0., 611.5, 240.75, 0., 0., 1.]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [0.1, -0.2, 0.001, 0.002, 0.]
rectification_matrix:
  rows: 3
  cols: 3
  data: [1., 0., 0., 0., 1., 0., 0., 0., 1.]
projection_matrix:
  rows: 3
  cols: 4
  data: [600., 0., 319., 0., 0., 601., 239., 0., 0., 0., 1., 0.]
"""


def test_a_file_of_the_calibrator_is_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "front.yaml"
    file.write_text(CALIBRATOR)
    found = load_calibration(file)
    assert (found.width, found.height, found.distortion_model) == (640, 480, "plumb_bob")
    assert (found.k[0], found.k[2], found.k[4], found.k[5]) == (610.5, 320.25, 611.5, 240.75)
    assert found.d == (0.1, -0.2, 0.001, 0.002, 0.0)
    assert found.projection[:4] == (600.0, 0.0, 319.0, 0.0)


@given(
    focal=st.tuples(st.floats(1, 1e4), st.floats(1, 1e4)),
    center=st.tuples(st.floats(0, 4e3), st.floats(0, 4e3)),
    d=st.lists(st.floats(-10, 10), min_size=4, max_size=8),
)
def test_what_is_saved_is_loaded_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory,
    focal: tuple[float, float],
    center: tuple[float, float],
    d: list[float],
) -> None:
    file = tmp_path_factory.mktemp("calibration") / "sub" / "front.yaml"
    intrinsics = Intrinsics.pinhole(1280, 720, focal, center, d=tuple(d), distortion_model="equidistant")
    save_calibration(file, intrinsics, "front")
    found = load_calibration(file)
    assert found.k == intrinsics.k
    assert found.d == intrinsics.d
    assert found.p == intrinsics.projection
    assert [entry.name for entry in file.parent.iterdir()] == ["front.yaml"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image_width: 640", "KeyError"),
        ("[1, 2]", "TypeError"),
        ("a: [", "cannot be read"),
        (CALIBRATOR.replace("[610.5, 0., ", "["), "camera_matrix"),
    ],
)
def test_a_file_that_is_no_calibration_is_refused_with_its_name(
    tmp_path: Path, text: str, words: str
) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words) as error:
        load_calibration(file)
    assert str(file) in str(error.value)


def test_a_calibration_is_named_by_a_path_or_a_file_url(tmp_path: Path) -> None:
    assert calibration_path("") is None
    assert calibration_path(str(tmp_path / "a.yaml")) == tmp_path / "a.yaml"
    assert calibration_path(f"file://{tmp_path}/a%20b.yaml") == tmp_path / "a b.yaml"
    with pytest.raises(ConfigError, match="camera_info_url"):
        calibration_path("package://robot/front.yaml")


def test_a_profile_reads_as_in_realsense2_camera_old_commas_included() -> None:
    assert parse_profile("640x480x30", "p") == parse_profile("640,480,30", "p") == (640, 480, 30)
    for wrong in ("640x480", "640x480x30x1", "axbxc", "640x480x-30", ""):
        with pytest.raises(ConfigError, match="'p' is"):
            parse_profile(wrong, "p")
