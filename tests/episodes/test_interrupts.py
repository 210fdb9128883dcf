"""Ctrl-C between any two steps of writing and closing: every sample is there once, and the file is whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import episodes.partial
import episodes.sinks
from episodes.reader import Episode
from episodes.writer import EpisodeWriter


def interrupt_at(call: int, after: bool, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, but its call number `call` is interrupted before or after it did its work."""
    calls = 0

    def interrupted(*arguments: Any, **settings: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and not after:
            raise KeyboardInterrupt
        result = function(*arguments, **settings)
        if calls == call:
            raise KeyboardInterrupt
        return result

    return interrupted


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("module", "name", "calls"),
    [
        (episodes.sinks, "write_rows", range(1, 24)),
        (episodes.partial, "set_attributes", range(1, 8)),
        (episodes.partial, "sync_folder", range(1, 2)),
        (episodes.partial.os, "fsync", range(1, 2)),
        (episodes.partial.os, "replace", range(1, 2)),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_an_interrupt_between_any_two_steps_loses_and_doubles_nothing(
    robot: Any,
    new_writer: Callable[..., EpisodeWriter],
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    name: str,
    calls: range,
    after: bool,
) -> None:
    hit = 0
    for call in calls:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            with new_writer(f"e{call}", image_storage="jpeg") as writer:
                robot.record(writer, 6)
                writer.event("mark", call, 5)
                patch.setattr(module, name, interrupt_at(call, after, getattr(module, name)))
                writer.finish("success", "sim")
            raise KeyboardInterrupt
        with Episode.open(writer.path) as episode:
            hit += episode.attrs["outcome"] == "failure" or name != "write_rows"
            assert not writer.partial.exists()
            np.testing.assert_array_equal(
                episode.stream("state").read(), np.stack([robot.state(k) for k in range(7)])
            )
            for stream in episode.streams.values():
                assert len(stream.read()) == len(stream) == (6 if stream.name == "truth" else 7)
                assert stream.attrs["samples"] == len(stream)
                assert stream.attrs["dropped"] == 0
            assert episode.commands is not None
            np.testing.assert_array_equal(
                episode.commands.values, np.stack([robot.action(k) for k in range(6)])
            )
            assert [event.value for event in episode.events] == [call]
    assert hit == len(calls)
