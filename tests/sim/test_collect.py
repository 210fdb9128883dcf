"""A collection is a function of its settings, and is never left with anything but whole episodes."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from episodes.aligned import align_episode
from episodes.contract import Source
from episodes.dataset import Dataset
from episodes.errors import ConfigError, ContractError, DatasetError
from episodes.reader import stream_hash
from episodes.writer import EpisodeWriter
from sim.collect import CollectConfig, collect, planned
from sim.experts import Mix

ROOT = Path(__file__).parents[2]
STATE = ROOT / "launch" / "contracts" / "sawyer_sim_state.yaml"
CAMERA = ROOT / "launch" / "contracts" / "sawyer_sim.yaml"
HALF_EXPERT = Mix(expert=0.25, noisy=0.5, random=0.25)


def hashes(folder: Path) -> dict[str, str]:
    dataset = Dataset.open(folder)
    found = {}
    for episode_id in dataset.ids():
        with dataset.read(episode_id) as episode:
            found[episode_id] = stream_hash(episode)
    return found


def small(folder: Path, **changes: object) -> CollectConfig:
    config = CollectConfig(folder, contract=STATE, episodes=8, mix=HALF_EXPERT, seed=3, horizon=12, workers=1)
    return dataclasses.replace(config, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight short state-only episodes, collected in one go by one process."""
    folder = tmp_path_factory.mktemp("collected") / "reference"
    collect(small(folder))
    return folder


def test_an_episode_holds_one_frame_more_than_commands(reference: Path) -> None:
    dataset = Dataset.open(reference)
    assert dataset.ids() == [f"s3-e{i:04d}" for i in range(8)]
    for info in dataset.infos():
        assert info.samples == {"state": 13, "joints": 13, "truth": 12, "commands": 12}
        assert info.attrs["clock"] == "sim"
        assert info.attrs["task"] == "metaworld/drawer-open-v3"
        assert info.attrs["outcome_source"] == "sim"
        assert info.outcome in ("success", "failure")
    assert [i.attrs["operator"] for i in dataset.infos()][:2] == ["expert", "expert"]


def test_ticks_line_up_without_a_shift(reference: Path) -> None:
    """The command of tick k is stamped t_k, moves the hand from frame k to k+1, and its reward stands at
    k+1."""
    with Dataset.open(reference).read("s3-e0000") as episode:
        aligned = align_episode(episode)
        commands = episode.commands
    t = 1_000_000_000 + 12_500_000 * np.arange(13)
    np.testing.assert_array_equal(aligned.observation_ns, t)
    assert commands is not None
    np.testing.assert_array_equal(commands.stamp_ns, t[:12])
    np.testing.assert_array_equal(commands.observation_ns, t[:12])
    np.testing.assert_array_equal(aligned.actions, commands.values)
    assert set(commands.source.tolist()) == {int(Source.SCRIPT)}
    assert len(aligned) == 12
    assert aligned.truncated
    assert not aligned.terminated
    state = aligned.observations["state"]
    np.testing.assert_array_equal(state[1:, 18:36], state[:-1, :18])
    assert aligned.rewards_truth is not None
    assert np.all(aligned.rewards_truth > 0)


def test_workers_order_and_repetition_change_nothing(reference: Path, tmp_path: Path) -> None:
    expected = hashes(reference)
    collect(small(tmp_path / "two", workers=2))
    assert hashes(tmp_path / "two") == expected
    for indices in ((7, 0, 3), (6, 1, 5, 2, 4)):
        collect(small(tmp_path / "pieces", indices=indices))
    assert hashes(tmp_path / "pieces") == expected
    assert len(set(expected.values())) == 8


def test_pictures_are_recorded_and_repeat_over_processes(tmp_path: Path) -> None:
    for folder, workers in (("a", 1), ("b", 2)):
        done = collect(
            small(
                tmp_path / folder,
                contract=CAMERA,
                episodes=2,
                mix=Mix(0.5, 0.5, 0.0),
                horizon=3,
                workers=workers,
            )
        )
        assert done.renderer
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    with Dataset.open(tmp_path / "a").read("s3-e0001") as episode:
        front = episode.streams["front"].read()
    assert front.shape == (4, 84, 84, 3)
    assert front.std() > 10
    assert not np.array_equal(front[0], front[3])


def test_another_seed_gives_other_episodes(reference: Path, tmp_path: Path) -> None:
    collect(small(tmp_path / "other", seed=4, indices=(0, 5)))
    assert not set(hashes(tmp_path / "other").values()) & set(hashes(reference).values())


def test_finished_episodes_are_kept_and_missing_ones_recorded(reference: Path, tmp_path: Path) -> None:
    shutil.copytree(reference, tmp_path / "copy")
    dataset = Dataset.open(tmp_path / "copy")
    dataset.file("s3-e0002").unlink()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "copy" / "episodes").iterdir()}
    steps: list[tuple[int, int]] = []
    done = collect(small(tmp_path / "copy"), lambda *step: steps.append(step))
    assert done.recorded == (2,)
    assert done.kept == (0, 1, 3, 4, 5, 6, 7)
    assert steps == [(7, 8), (8, 8)]
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    assert hashes(tmp_path / "copy") == hashes(reference)


def test_the_experts_can_be_left_to_another_recorder(reference: Path, tmp_path: Path) -> None:
    done = collect(small(tmp_path / "rest", first=2))
    assert done.recorded == tuple(range(2, 8))
    assert {b.kind for b in planned(small(tmp_path), _contract())[:2]} == {"expert"}
    expected = hashes(reference)
    assert hashes(tmp_path / "rest") == {k: v for k, v in expected.items() if k > "s3-e0001"}


def _contract() -> object:
    from episodes.contract import load_contract

    return load_contract(STATE)


def test_what_a_killed_run_left_is_removed_with_a_message(reference: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    shutil.copytree(reference, folder)
    finished = Dataset.open(folder).file("s3-e0004")
    partial = finished.with_name(finished.name + ".partial")
    finished.rename(partial)
    done = collect(small(folder))
    assert done.recorded == (4,)
    assert any(partial.name in note and "killed" in note for note in done.notes)
    assert not partial.exists()
    assert hashes(folder) == hashes(reference)


def test_an_episode_that_another_process_is_recording_is_left_alone(tmp_path: Path) -> None:
    dataset = Dataset.create(tmp_path / "busy", _contract())  # type: ignore[arg-type]
    with dataset.new_writer(clock="sim", started_ns=0, episode_id="s3-e0001") as writer:
        with pytest.raises(DatasetError, match="another process is recording"):
            collect(small(tmp_path / "busy"))
        assert writer.partial.exists()
        writer.discard()


def test_an_episode_that_ended_early_is_recorded_anew(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a full disk, when the writer itself closes the episode as a failure."""
    folder = tmp_path / "full"
    with monkeypatch.context() as patch:
        real = EpisodeWriter.append_command

        def full(self: EpisodeWriter, *arguments: object) -> None:
            real(self, *arguments)  # type: ignore[arg-type]
            self.flush()
            self._close("failure", "none", "disk full")
            raise DatasetError("the disk is full")

        patch.setattr(EpisodeWriter, "append_command", full)
        with pytest.raises(DatasetError, match="full"):
            collect(small(folder))
    assert len(Dataset.open(folder).ids()) == 1
    done = collect(small(folder))
    assert any("disk full" in note for note in done.notes)
    assert hashes(folder) == hashes(reference)


@pytest.mark.parametrize(
    "changes",
    [{"episodes": 9}, {"horizon": 11}, {"mix": Mix(0.0, 0.5, 0.5)}, {"env": "metaworld/drawer-close-v3"}],
)
def test_another_collection_does_not_mix_into_the_folder(
    reference: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    shutil.copytree(reference, tmp_path / "copy")
    with pytest.raises(DatasetError, match="under that name"):
        collect(small(tmp_path / "copy", **changes))


def test_settings_that_cannot_work_are_refused(tmp_path: Path) -> None:
    for changes, match in (
        ({"indices": (8,)}, "between 0 and 7"),
        ({"indices": (1, 1)}, "at most once"),
        ({"workers": -1}, "--workers -1"),
        ({"env": "metaworld/drawer-opened-v3"}, "did you mean"),
    ):
        with pytest.raises(ConfigError, match=match):
            collect(small(tmp_path / "x", **changes))
    with pytest.raises(ContractError, match="cannot be read"):
        collect(small(tmp_path / "x", contract=tmp_path / "robot.yaml"))


def _start(folder: Path) -> subprocess.Popen[str]:
    """The front door on a collection that takes long, stopped in the middle of it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "armchair", "collect", str(folder), "--contract", str(STATE), "--episodes",
        "400",
         "--workers", "2"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    _until(lambda: len(list((folder / "episodes").glob("*.h5"))) >= 3)
    return process


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "did not come about in time"
        time.sleep(0.005)


def test_ctrl_c_leaves_whole_episodes_alone(tmp_path: Path) -> None:
    process = _start(tmp_path / "d")
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "episodes are whole" in stderr
    assert "Traceback" not in stderr
    dataset = Dataset.open(tmp_path / "d")
    assert 3 <= len(dataset.infos()) < 400
    assert not dataset.partials()


def test_a_killed_run_goes_on_to_the_same_recording(tmp_path: Path) -> None:
    process = _start(tmp_path / "d")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    dataset = Dataset.open(tmp_path / "d")
    there = len(dataset.ids())
    chosen = tuple(
        sorted({int(p.name.partition("-e")[2][:4]) for p in [*dataset.partials()]} | {0, 1, there - 1})
    )
    config = CollectConfig(tmp_path / "d", contract=STATE, episodes=400, workers=1, indices=chosen)
    done = collect(config)
    assert len(done.recorded) + len(done.kept) == len(chosen)
    assert not dataset.partials()
    collect(dataclasses.replace(config, dataset=tmp_path / "e"))
    ours, fresh = hashes(tmp_path / "d"), hashes(tmp_path / "e")
    assert {k: ours[k] for k in fresh} == fresh
