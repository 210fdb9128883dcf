"""Videos, folders of pictures and bags played as a camera; the files are real ones, made here."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from episodes.errors import ConfigError, MachineError
from ros_nodes.cameras.files import FilesConfig, FileSource
from ros_nodes.cameras.frames import Clock, Frame, SourceEnded, SourceLost

HEIGHT, WIDTH = 24, 32
START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 20_000_000


def picture(number: int) -> NDArray[np.uint8]:
    """RGB whose grey value tells its number, even through lossy video."""
    return np.full((HEIGHT, WIDTH, 3), 20 * (number % 12 + 1), np.uint8)


def write_folder(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        cv2.imwrite(str(folder / f"frame_{number}.png"), picture(number))
    return folder


def write_video(path: Path, count: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 50.0, (WIDTH, HEIGHT))
    for number in range(count):
        writer.write(picture(number))
    writer.release()
    return path


def write_bag(
    folder: Path, count: int, *, mcap: bool = True, topics: tuple[str, ...] = ("/front/image_raw",)
) -> Path:
    """A rosbag2 folder with raw pictures of `count` moments on each topic, and calibration beside them."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types = store.types
    plugin = StoragePlugin.MCAP if mcap else StoragePlugin.SQLITE3
    with Writer(folder, version=9, storage_plugin=plugin) as writer:
        for topic in topics:
            images = writer.add_connection(topic, "sensor_msgs/msg/Image", typestore=store)
            info_topic = f"{topic.rsplit('/', 1)[0]}/camera_info"
            infos = writer.add_connection(info_topic, "sensor_msgs/msg/CameraInfo", typestore=store)
            roi = types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
            for number in range(count):
                at_ns = START_NS + number * PERIOD_NS
                stamp = types["builtin_interfaces/msg/Time"](*divmod(at_ns, 10**9))
                header = types["std_msgs/msg/Header"](stamp, "front_optical_frame")
                data = picture(number).reshape(-1)
                image = types["sensor_msgs/msg/Image"](header, HEIGHT, WIDTH, "rgb8", 0, 3 * WIDTH, data)
                k = np.array([50.0, 0, 16, 0, 51, 12, 0, 0, 1])
                info = types["sensor_msgs/msg/CameraInfo"](
                    header, HEIGHT, WIDTH, "plumb_bob", np.zeros(5), k, np.eye(3).ravel(), np.zeros(12),
                    0, 0, roi,
                )  # fmt: skip
                # The recorder got each picture late by a delay that varies; the headers are right.
                written_ns = at_ns + 3_000_000 * (number % 3)
                writer.write(images, written_ns, store.serialize_cdr(image, images.msgtype))
                writer.write(infos, written_ns, store.serialize_cdr(info, infos.msgtype))
    return folder


def play(source: FileSource, count: int) -> list[Frame]:
    """The next `count` frames, waited for as the capture thread does."""
    found: list[Frame] = []
    deadline = time.monotonic() + 20
    while len(found) < count:
        assert time.monotonic() < deadline, "the pictures did not come"
        if (frame := source.read(0.2)) is not None:
            found.append(frame)
    return found


def values(found: list[Frame]) -> list[int]:
    return [round(float(frame.pictures[0].pixels.mean()) / 20.0) - 1 for frame in found]


Make = Callable[[Path], Path]
KINDS: dict[str, Make] = {
    "folder": lambda tmp: write_folder(tmp / "pictures", 5),
    "video": lambda tmp: write_video(tmp / "film.avi", 5),
    "mcap": lambda tmp: write_bag(tmp / "bag", 5),
    "sqlite3": lambda tmp: write_bag(tmp / "bag", 5, mcap=False),
    "lone mcap": lambda tmp: next(write_bag(tmp / "bag", 5).glob("*.mcap")),
    "lone db3": lambda tmp: next(write_bag(tmp / "bag", 5, mcap=False).glob("*.db3")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_plays_its_pictures_in_order_when_they_are_due_and_then_ends(
    kind: str, tmp_path: Path
) -> None:
    source = FileSource(
        FilesConfig(path=str(KINDS[kind](tmp_path)), rate_hz=50.0 if kind == "folder" else 0.0)
    )
    device = source.open()
    found = play(source, 5)
    assert values(found) == [0, 1, 2, 3, 4]
    assert device.streams["color"].rate_hz == pytest.approx(50.0)
    assert all(frame.clock is Clock.MONOTONIC and frame.stamp_ns <= frame.received_ns for frame in found)
    assert found[-1].stamp_ns - found[0].stamp_ns >= 4 * PERIOD_NS - 4, "not faster than they were taken"
    with pytest.raises(SourceEnded, match="all pictures are shown"):
        source.read(0.2)
    source.close()


@pytest.mark.parametrize("kind", ["folder", "video", "mcap"])
def test_a_loop_begins_again_with_stamps_that_go_on(kind: str, tmp_path: Path) -> None:
    source = FileSource(FilesConfig(path=str(KINDS[kind](tmp_path)), rate_hz=200.0, loop=True))
    source.open()
    found = play(source, 12)
    source.close()
    assert values(found) == [0, 1, 2, 3, 4] * 2 + [0, 1]
    stamps = [frame.stamp_ns for frame in found]
    assert all(later > earlier for earlier, later in pairwise(stamps))


def test_numbers_in_names_are_numbers_and_other_files_are_none_of_the_camera_s_business(
    tmp_path: Path,
) -> None:
    folder = write_folder(tmp_path / "pictures", 12)
    (folder / "notes.txt").write_text("frame_3 is blurred")
    source = FileSource(FilesConfig(path=str(folder), rate_hz=1000.0))
    source.open()
    assert values(play(source, 12)) == list(range(12))
    source.close()


def test_colours_come_as_rgb_and_16_bit_png_as_depth_to_the_last_bit(tmp_path: Path) -> None:
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 2] = 200  # OpenCV writes BGR
    cv2.imwrite(str(tmp_path / "0.png"), red)
    color = FileSource(FilesConfig(path=str(tmp_path)))
    color.open()
    assert play(color, 1)[0].pictures[0].pixels[0, 0].tolist() == [200, 0, 0]
    depth = np.arange(16, dtype=np.uint16).reshape(4, 4) * 4000
    cv2.imwrite(str(tmp_path / "0.png"), depth)
    source = FileSource(FilesConfig(path=str(tmp_path), stream="aligned_depth_to_color"))
    source.open()
    shown = play(source, 1)[0].pictures[0]
    np.testing.assert_array_equal(shown.pixels[..., 0], depth)
    assert shown.stream == "aligned_depth_to_color"


def test_pictures_of_another_kind_than_the_stream_says_are_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((4, 4), np.uint16))
    source = FileSource(FilesConfig(path=str(tmp_path)))
    source.open()
    with pytest.raises(ConfigError, match=r"uint16 pictures.*files.stream"):
        source.read(0.1)


def test_calibration_beside_the_pictures_of_a_bag_comes_with_them(tmp_path: Path) -> None:
    source = FileSource(FilesConfig(path=str(write_bag(tmp_path / "bag", 2))))
    intrinsics = source.open().streams["color"].intrinsics
    source.close()
    assert intrinsics is not None
    assert (intrinsics.width, intrinsics.height, intrinsics.k[0], intrinsics.k[5]) == (
        WIDTH,
        HEIGHT,
        50.0,
        12.0,
    )


def test_jpegs_of_a_bag_are_decoded(tmp_path: Path) -> None:
    store = get_typestore(Stores.ROS2_JAZZY)
    header = store.types["std_msgs/msg/Header"](store.types["builtin_interfaces/msg/Time"](1, 0), "")
    jpeg: Any = cv2.imencode(".jpg", picture(3))[1]
    with Writer(tmp_path / "bag", version=9) as writer:
        kind = "sensor_msgs/msg/CompressedImage"
        connection = writer.add_connection("/front/image_raw/compressed", kind, typestore=store)
        message = store.types[kind](header, "rgb8; jpeg compressed bgr8", jpeg)
        writer.write(connection, 5, store.serialize_cdr(message, kind))
    source = FileSource(FilesConfig(path=str(tmp_path / "bag")))
    source.open()
    assert values(play(source, 1)) == [3]
    source.close()


def test_a_bag_with_several_cameras_asks_which_and_a_wrong_answer_gets_the_right_ones(tmp_path: Path) -> None:
    bag = str(write_bag(tmp_path / "bag", 2, topics=("/front/image_raw", "/wrist/image_raw")))
    with pytest.raises(ConfigError, match=r"files\.topic.*/front/image_raw, /wrist/image_raw"):
        FileSource(FilesConfig(path=bag)).open()
    with pytest.raises(ConfigError, match="did you mean '/wrist/image_raw'"):
        FileSource(FilesConfig(path=bag, topic="/wrist/image_ra")).open()
    source = FileSource(FilesConfig(path=bag, topic="wrist/image_raw"))
    assert "/wrist/image_raw" in source.open().name
    source.close()


def test_what_is_not_there_or_not_readable_is_an_error_that_may_pass(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mcap"
    broken.write_bytes(b"\x89MCAP0\r\n" + b"\x00" * 100)
    (tmp_path / "film.avi").write_text("no film")
    (tmp_path / "empty").mkdir()
    for name, words in (
        ("nothing", "no such file"),
        ("broken.mcap", "cannot be opened"),
        ("film.avi", "no video"),
        ("empty", "no pictures"),
    ):
        with pytest.raises(MachineError, match=words) as error:
            FileSource(FilesConfig(path=str(tmp_path / name))).open()
        assert name in str(error.value)
    with pytest.raises(ConfigError, match=r"files\.path"):
        FileSource(FilesConfig())
    with pytest.raises(ConfigError, match=r"files\.stream"):
        FileSource(FilesConfig(path="x", stream="infra"))


def test_a_picture_that_is_removed_or_cut_short_while_it_plays_is_a_lost_source(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "pictures", 3)
    source = FileSource(FilesConfig(path=str(folder), rate_hz=1000.0))
    source.open()
    play(source, 1)
    (folder / "frame_1.png").unlink()
    with pytest.raises(SourceLost, match=r"frame_1.png cannot be read"):
        source.read(0.1)
    source.close()
    (folder / "frame_2.png").write_bytes((folder / "frame_2.png").read_bytes()[:40])
    source.open()
    play(source, 1)
    with pytest.raises(SourceLost, match=r"frame_2.png.*no picture"):
        source.read(0.1)
    source.close()


@pytest.mark.parametrize("mcap", [True, False])
def test_a_bag_that_is_damaged_in_the_middle_plays_what_it_holds_and_is_never_another_error(
    tmp_path: Path, mcap: bool
) -> None:
    bag = write_bag(tmp_path / "bag", 40, mcap=mcap)
    (file,) = bag.glob("*.mcap" if mcap else "*.db3")
    if mcap:
        whole = bytearray(file.read_bytes())
        middle = len(whole) // 2
        whole[middle : middle + 20_000] = b"\xff" * 20_000
        file.write_bytes(whole)
    else:
        with sqlite3.connect(file) as database:
            database.execute("UPDATE messages SET data = substr(data, 1, 60) WHERE id > 20")
    source = FileSource(FilesConfig(path=str(bag), rate_hz=1000.0))
    found: list[Frame] = []
    with pytest.raises((SourceLost, MachineError, SourceEnded)):
        source.open()
        while True:
            found += play(source, 1)
    assert values(found)[:10] == list(range(10))
    assert 10 <= len(found) < 40
    source.close()
