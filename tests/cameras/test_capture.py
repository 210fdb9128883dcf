"""The capture thread: newest frame only, reconnects, repeats left out, stamps on the host's wall clock."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from episodes.errors import ConfigError, MachineError
from ros_nodes.cameras.backoff import Backoff
from ros_nodes.cameras.capture import Capture, Newest, Patience, Shot, is_same
from ros_nodes.cameras.files import FilesConfig, FileSource
from ros_nodes.cameras.frames import (
    Clock,
    Device,
    Frame,
    Picture,
    Source,
    SourceEnded,
    SourceLost,
    StreamInfo,
)
from ros_nodes.cameras.health import Level

Step = Frame | None | Exception


class Scripted:
    """A source that plays one script for each time that it is opened; a script is what `read` answers."""

    streams = ("color",)

    def __init__(self, *scripts: Iterable[Step] | Exception) -> None:
        self._scripts = iter(scripts)
        self._script: Iterator[Step] = iter(())
        self.closed = 0

    def open(self) -> Device:
        script = next(self._scripts)
        if isinstance(script, Exception):
            raise script
        self._script = iter(script)
        return Device("scripted camera", {"color": StreamInfo(100.0)})

    def read(self, timeout_s: float) -> Frame | None:
        step = next(self._script)
        if isinstance(step, Exception):
            raise step
        return step

    def close(self) -> None:
        self.closed += 1


def frame(number: int, *, stamp_ns: int | None = None, clock: Clock = Clock.DEVICE) -> Frame:
    pixels = np.full((4, 4, 3), number % 251, np.uint8)
    stamp = number * 10_000_000 if stamp_ns is None else stamp_ns
    return Frame((Picture("color", pixels, number),), stamp, clock, time.monotonic_ns())


def run(
    source: Source, *, patience: Patience | None = None, latency_ns: int = 0
) -> tuple[Capture, list[Shot], list[str]]:
    """Run a source to its end, or to its failure; what came of it, and what was logged."""
    shots: list[Shot] = []
    lines: list[str] = []
    backoff = Backoff(1_000_000, 4_000_000, rng=random.Random(0))
    capture = Capture(source, patience or Patience(), backoff, lines.append, latency_ns)
    capture.slot.put = lambda shot, key="": shots.append(shot)  # type: ignore[method-assign]
    capture.start()
    until(lambda: not capture.is_running())
    return capture, shots, lines


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        threading.Event().wait(0.001)


END = SourceEnded("over")


def numbers(shots: list[Shot]) -> list[int | None]:
    return [shot.pictures[0].number for shot in shots]


def test_the_slot_keeps_the_newest_and_counts_what_nobody_took() -> None:
    slot: Newest[int] = Newest()
    assert slot.take(0.0) is None
    for value in range(5):
        slot.put(value)
    assert (slot.take(0.0), slot.take(0.0), slot.dropped) == (4, None, 4)


def test_streams_that_come_one_by_one_do_not_push_each_other_out() -> None:
    slot: Newest[int] = Newest()
    for value, key in ((1, "depth"), (2, "color"), (3, "depth")):
        slot.put(value, key)
    assert (slot.take(0.0), slot.take(0.0), slot.take(0.0), slot.dropped) == (2, 3, None, 1)


def test_frames_come_out_in_order_and_the_end_of_the_source_ends_the_thread() -> None:
    source = Scripted([frame(1), None, frame(2), frame(3), END])
    capture, shots, _ = run(source)
    assert numbers(shots) == [1, 2, 3]
    assert capture.ended
    assert capture.failure is None
    assert source.closed == 1


def test_a_frame_that_the_device_hands_out_again_is_counted_and_not_passed_on() -> None:
    capture, shots, _ = run(Scripted([frame(1), frame(1), frame(1), frame(2), END]))
    assert numbers(shots) == [1, 2]
    assert capture.reports(time.monotonic_ns())["color"].figures["repeated"] == 2


def test_identical_pixels_under_new_stamps_are_passed_on_and_counted() -> None:
    same = [frame(7, stamp_ns=stamp) for stamp in (1, 2, 3)]
    capture, shots, _ = run(Scripted([*same, END]))
    assert len(shots) == 3
    assert capture.reports(time.monotonic_ns())["color"].figures["identical"] == 2


def test_a_camera_that_is_lost_is_opened_again_and_again_and_its_numbers_begin_anew() -> None:
    gone = SourceLost("the cable is out.")
    capture, shots, lines = run(
        Scripted([frame(100), gone], MachineError("not there."), MachineError("not there."), [frame(1), END])
    )
    assert numbers(shots) == [100, 1]
    assert capture.connection.reconnects == 1
    figures = capture.reports(time.monotonic_ns())["color"].figures
    assert (figures["gaps"], figures["missed"]) == (0, 0)
    assert [line.split(" Trying")[0] for line in lines] == [
        "opened scripted camera: color", "the cable is out.", "not there.", "opened scripted camera: color",
    ], "a reason is told once, not with every attempt"  # fmt: skip


def test_a_camera_that_falls_silent_is_opened_again() -> None:
    silent: list[Step] = [frame(1), *[None] * 10_000]
    _, shots, lines = run(Scripted(_slowly(silent), [frame(2), END]), patience=Patience(silent_s=0.05))
    assert numbers(shots) == [1, 2]
    assert any("has sent no frame for" in line for line in lines)


def _slowly(steps: list[Step]) -> Iterator[Step]:
    for step in steps:
        threading.Event().wait(0.001)
        yield step


def test_a_camera_that_never_appears_ends_the_thread_with_the_reason_and_one_that_was_there_does_not() -> (
    None
):
    never = (MachineError("camera 7 is not there.") for _ in range(10_000))
    capture, _, _ = run(Scripted(*never), patience=Patience(first_s=0.05))
    assert isinstance(capture.failure, MachineError)
    assert str(capture.failure).startswith("camera 7 is not there. Waited for it")
    lost = (MachineError("gone.") for _ in range(50))
    capture, shots, _ = run(
        Scripted([frame(1), SourceLost("gone.")], *lost, [frame(2), END]), patience=Patience(first_s=0.0)
    )
    assert capture.failure is None
    assert numbers(shots) == [1, 2]


def test_a_setting_that_can_never_work_is_not_tried_again() -> None:
    capture, _, _ = run(Scripted(ConfigError("no such profile")))
    assert str(capture.failure) == "no such profile"


def test_an_error_of_the_program_ends_the_thread_without_a_word_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_type.__name__))
    capture, _, _ = run(Scripted([ZeroDivisionError()]))
    assert seen == ["ZeroDivisionError"]
    assert not capture.ended
    assert capture.failure is None


def test_stamps_are_wall_clock_of_the_moment_before_arrival_less_the_latency() -> None:
    before_ns = time.time_ns()
    wall = frame(1, stamp_ns=before_ns, clock=Clock.SYSTEM)
    _, shots, _ = run(Scripted([frame(1), frame(2), END]), latency_ns=5_000_000)
    for shot in shots:
        assert before_ns - 5_000_000 <= shot.stamp_ns <= time.time_ns() - 5_000_000
    _, (shot,), _ = run(Scripted([wall, END]))
    assert shot.stamp_ns == before_ns
    now_ns = time.monotonic_ns()
    _, (shot,), _ = run(Scripted([frame(1, stamp_ns=now_ns - 10**9, clock=Clock.MONOTONIC), END]))
    assert abs(time.time_ns() - time.monotonic_ns() + now_ns - 10**9 - shot.stamp_ns) < 5_000_000


def test_a_taker_that_is_slow_does_not_slow_capture(tmp_path: Path) -> None:
    for number in range(20):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((48, 64, 3), 10 * number, np.uint8))
    source = FileSource(FilesConfig(path=str(tmp_path), rate_hz=200.0, loop=True))
    capture = Capture(source, Patience(), Backoff(rng=random.Random(0)), lambda line: None)
    capture.start()

    def captured() -> float:
        return capture.reports(time.monotonic_ns())["color"].figures["frames"]

    until(lambda: captured() >= 200)  # and nobody has taken one
    report = capture.reports(time.monotonic_ns())["color"]
    assert capture.slot.dropped >= captured() - 2 >= 190
    assert report.level is not Level.ERROR
    newest = capture.slot.take(1.0)
    assert newest is not None
    assert time.time_ns() - newest.stamp_ns < 1_000_000_000
    assert capture.stop(5.0)


def test_pictures_are_the_same_only_to_the_last_bit() -> None:
    rng = np.random.default_rng(0)
    one = rng.integers(0, 256, (200, 64, 3), np.uint8)
    other = one.copy()
    assert is_same(one, other)
    other[150, 30, 1] ^= 1
    assert not is_same(one, other)
    assert not is_same(one, one[:-1])
    assert not is_same(one, one.astype(np.uint16))
