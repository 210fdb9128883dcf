"""Stages are done once, resumed when stopped, and redone when what they depend on changed."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from bench.stages import Stages, alone
from episodes.errors import MachineError


@pytest.fixture
def stages(tmp_path: Path) -> Stages:
    return again(tmp_path)


def again(folder: Path) -> Stages:
    return Stages(folder, Console(file=io.StringIO()))


def test_a_finished_stage_is_not_done_again(tmp_path: Path, stages: Stages) -> None:
    calls = []

    def work(progress):
        progress(1, 1)
        calls.append(1)
        return {"figure": 3}

    assert stages.run("a", "A", {"x": 1}, work) == {"figure": 3}
    second = again(tmp_path)
    assert second.run("a", "A", {"x": 1}, work) == {"figure": 3}
    assert len(calls) == 1
    assert second.records["a"].reused
    assert not stages.records["a"].reused


def test_a_changed_setting_redoes_the_stage_and_what_depends_on_it(tmp_path: Path) -> None:
    done: list[str] = []

    def run(x: int) -> None:
        job = again(tmp_path)
        job.run("a", "A", {"x": x}, lambda _: done.append("a") or {})
        job.run("b", "B", {}, lambda _: done.append("b") or {}, after=["a"])
        job.run("c", "C", {}, lambda _: done.append("c") or {})

    run(1)
    run(2)
    assert done == ["a", "b", "c", "a", "b"]


def test_a_stage_stopped_half_way_finds_its_half_done_output_again(tmp_path: Path, stages: Stages) -> None:
    output = tmp_path / "out"

    def stopped(_):
        output.mkdir()
        (output / "half").write_text("kept")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stages.run("a", "A", {"x": 1}, stopped, outputs=[output])

    def resumed(_):
        return {"found": (output / "half").read_text()}

    assert again(tmp_path).run("a", "A", {"x": 1}, resumed, outputs=[output]) == {"found": "kept"}


def test_output_of_other_settings_is_removed_before_the_stage_runs(tmp_path: Path, stages: Stages) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "old").write_text("from other settings")
    assert stages.run("a", "A", {"x": 1}, lambda _: {"exists": output.exists()}, outputs=[output]) == {
        "exists": False
    }


def test_a_stage_whose_output_was_deleted_runs_again(tmp_path: Path, stages: Stages) -> None:
    output = tmp_path / "out"
    calls = []

    def work(_):
        calls.append(1)
        output.mkdir(exist_ok=True)
        return {}

    stages.run("a", "A", {}, work, outputs=[output])
    output.rmdir()
    again(tmp_path).run("a", "A", {}, work, outputs=[output])
    assert len(calls) == 2


def test_a_torn_record_counts_as_not_done(tmp_path: Path, stages: Stages) -> None:
    stages.run("a", "A", {}, lambda _: {"n": 1})
    record = tmp_path / "stages" / "a.json"
    record.write_text(record.read_text()[:10])
    assert again(tmp_path).run("a", "A", {}, lambda _: {"n": 2}) == {"n": 2}
    assert json.loads(record.read_text())["result"] == {"n": 2}


def test_a_folder_has_one_run_at_a_time_and_is_free_after_it(tmp_path: Path) -> None:
    with alone(tmp_path / "out"):
        with pytest.raises(MachineError, match="another run works here"), alone(tmp_path / "out"):
            pass
        with alone(tmp_path / "elsewhere"):
            pass
    with alone(tmp_path / "out"):
        pass
