"""A recorded episode is drawn again only where it is that episode, to the last bit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from episodes.contract import load_contract
from episodes.dataset import Dataset
from episodes.edits import Change
from episodes.errors import ConfigError, EpisodeError
from episodes.reader import Episode, stream_hash
from episodes.writer import EpisodeWriter
from reward.frames import image_stream, load_frames
from sim.collect import CollectConfig, collect
from sim.experts import Mix
from sim.picture import RenderConfig, main
from sim.redraw import Redraw, redraw, with_camera
from sim.replay import Replay, origin_of

ROOT = Path(__file__).parents[2]
CAMERA = ROOT / "launch" / "contracts" / "sawyer_sim.yaml"
STATE = ROOT / "launch" / "contracts" / "sawyer_sim_state.yaml"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two short episodes with pictures, of evaluation goals."""
    folder = tmp_path_factory.mktemp("recorded") / "data"
    mix = Mix(expert=0.5, noisy=0.5, random=0.0)
    collect(
        CollectConfig(folder, CAMERA, episodes=2, seed=5, mix=mix, horizon=6, split="evaluation", workers=1)
    )
    return folder


def episode(folder: Path, number: int = 0) -> Path:
    return Dataset.open(folder).file(f"s5-e{number:04d}")


def test_a_recording_says_where_it_comes_from(recorded: Path) -> None:
    with Episode.open(episode(recorded, 1)) as one:
        origin = origin_of(one)
    assert (origin.environment, origin.seed, origin.episode) == ("metaworld/drawer-open-v3", 5, 1)
    assert origin.split == "evaluation"
    assert "mujoco" in origin.source


def test_the_recorded_pictures_come_out_again_pixel_by_pixel(recorded: Path) -> None:
    with Episode.open(episode(recorded, 1)) as one:
        replay = Replay(one, origin_of(one))
        drawn = [world.env.render("corner2", 84, 84) for world in replay]
        camera = one.contract.simulation.camera("front")  # type: ignore[union-attr]
        assert camera == "corner2"
        np.testing.assert_array_equal(np.stack(drawn), one.stream("front").read())
        replay.close()


def test_where_the_recording_does_not_say_the_split_the_first_frame_decides(recorded: Path) -> None:
    with Episode.open(episode(recorded)) as one:
        replay = Replay(one, dataclasses.replace(origin_of(one), split=None))
        assert len(list(replay)) == 7
        replay.close()


def test_another_goal_is_noticed_at_the_first_frame_and_nothing_is_drawn(
    recorded: Path, tmp_path: Path
) -> None:
    out = tmp_path / "film.mp4"
    with pytest.raises(EpisodeError, match=r"at frame 0 stream 'state'.*--split, --seed and --episode"):
        main(RenderConfig(str(episode(recorded)), out=out, camera="corner3", split="train"))
    assert not out.exists()


def test_a_recording_that_differs_in_one_bit_later_on_is_refused_by_its_frame(
    recorded: Path, tmp_path: Path
) -> None:
    with Episode.open(episode(recorded)) as one:
        writer = EpisodeWriter(
            tmp_path, one.contract, clock="sim", started_ns=1, episode_id="s5-e0000", extra_streams=()
        )
        for name in ("state", "joints"):
            values = one.stream(name).read()
            if name == "joints":
                values[4, 2] = np.nextafter(values[4, 2], np.inf)
            for value, stamp in zip(values, one.stream(name).stamp_ns.tolist(), strict=True):
                writer.append(name, value, stamp, stamp)
        commands = one.commands
        assert commands is not None
        for value, stamp in zip(commands.values, commands.stamp_ns.tolist(), strict=True):
            writer.append_command(value, stamp, stamp, stamp, 3)  # type: ignore[arg-type]
        path = writer.finish(outcome="failure", outcome_source="sim", termination_reason="horizon")
    with Episode.open(path) as changed:
        origin = origin_of(changed)
        assert (origin.seed, origin.episode, origin.split) == (5, 0, None), "the id says seed and number"
        replay = Replay(changed, origin_of(changed, split="evaluation"))
        with pytest.raises(EpisodeError, match=r"at frame 4 stream 'joints', entry 2 \(right_j2\)"):
            list(replay)
        replay.close()


def test_what_was_not_recorded_in_lock_step_is_refused(recorded: Path, tmp_path: Path) -> None:
    with Episode.open(episode(recorded)) as one:
        writer = EpisodeWriter(tmp_path, one.contract, clock="ros", started_ns=1, episode_id="s5-e0000")
        for k, value in enumerate(one.stream("state").read()):
            writer.append("state", value, 1_000_000_000 + 13_000_000 * k, 1_000_000_000 + 13_000_000 * k)
        writer.append_command(np.zeros(4), 1_000_000_000, 1_000_000_000, 1_000_000_000, 3)  # type: ignore[arg-type]
        path = writer.finish(outcome="failure", outcome_source="sim", termination_reason="horizon")
    with Episode.open(path) as other, pytest.raises(EpisodeError, match="lock-step"):
        Replay(other, origin_of(other, split="evaluation"))


def test_a_data_set_gets_pictures_that_label_takes(recorded: Path, tmp_path: Path) -> None:
    into = tmp_path / "more"
    splits = Dataset.open(recorded).set_splits(0, 0.5)
    Dataset.open(recorded).edits.add(["s5-e0001"], Change(outcome="failure"), who="me", when_ns=1)
    what = Redraw(recorded, into, "corner3", (30, 40))
    assert redraw(what) == (2, 0)
    assert redraw(what) == (0, 2), "what is there is kept"
    dataset, before = Dataset.open(into), Dataset.open(recorded)
    assert dataset.ids() == before.ids()
    assert dataset.splits == splits
    assert dataset.edits.entries() == before.edits.entries() != ()
    for episode_id in before.ids():
        with dataset.read(episode_id) as now, before.read(episode_id) as then:
            names = [*then.streams, "commands"]
            assert stream_hash(now, names) == stream_hash(then, names)
            assert now.stream("corner3_30").read().shape == (7, 30, 40, 3)
            assert now.attrs["operator"] == then.attrs["operator"]
            assert now.attrs["termination_reason"] == then.attrs["termination_reason"]
            assert [e.name for e in now.events] == ["collect", "redraw"]
    assert image_stream(dataset, "corner3_30") == "corner3_30"
    frames = load_frames(dataset, "corner3_30")
    assert frames.images.shape == (14, 30, 40, 3)
    assert frames.images.std() > 10


@pytest.mark.long
def test_the_result_does_not_depend_on_the_number_of_workers(recorded: Path, tmp_path: Path) -> None:
    found = []
    for workers in (1, 2):
        redraw(Redraw(recorded, tmp_path / str(workers), "topview", (24, 24)), workers)
        dataset = Dataset.open(tmp_path / str(workers))
        with dataset.read("s5-e0000") as a, dataset.read("s5-e0001") as b:
            found.append((stream_hash(a), stream_hash(b)))
    assert found[0] == found[1]


def test_a_taken_stream_an_unknown_camera_and_the_same_folder_are_refused(
    recorded: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="write another name with --stream"):
        with_camera(load_contract(CAMERA), "front", "corner3", (10, 10))
    with pytest.raises(ConfigError, match=r"no such camera; did you mean 'corner3'\?"):
        redraw(Redraw(recorded, tmp_path / "x", "corner33", (10, 10)))
    assert not Dataset.open(tmp_path / "x").partials()
    with pytest.raises(ConfigError, match="another folder"):
        redraw(Redraw(recorded, recorded, "corner3", (10, 10)))


def test_a_still_a_strip_and_a_film_of_an_episode_are_written(recorded: Path, tmp_path: Path) -> None:
    target = str(episode(recorded))
    still, strip, film = (tmp_path / name for name in ("a.png", "b.png", "c.mp4"))
    assert main(RenderConfig(target, out=still, camera="corner3", height=32, width=48, at=6)) == 0
    assert cv2.imread(str(still)).shape == (32, 48, 3)
    assert main(RenderConfig(target, out=strip, camera="corner3", height=32, strip=3)) == 0
    assert cv2.imread(str(strip)).shape == (32, 3 * 32 + 4, 3)
    assert main(RenderConfig(target, out=film, camera="corner3", height=32)) == 0
    assert cv2.VideoCapture(str(film)).get(cv2.CAP_PROP_FRAME_COUNT) == 4, "40 of the 80 frames/s"
