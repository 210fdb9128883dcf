"""The main job in small, for real: ROS nodes on DDS, frames, labels, training, export, deployment."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bench.demo import summarise
from bench.legs import LEGS
from episodes.dataset import Dataset

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    *("--episodes", "25", "--horizon", "20", "--pairs", "60", "--steps", "40", "--goals", "2"),
    *("--held-out", "3"),
    *("--judge", "scripted"),
)


def start(out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "armchair.py"), "demo", "--out", str(out), *SMALL],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={key: value for key, value in os.environ.items() if key != "GEMINI_API_KEY"},
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """Folder, output of a run interrupted while the judge was at work, output of the run after it."""
    out = tmp_path_factory.mktemp("demo")
    first = start(out)
    deadline = time.monotonic() + 240
    while not (out / "stages" / "judge.started").exists():
        assert first.poll() is None, first.communicate()[0]
        assert time.monotonic() < deadline, "the judge did not begin within 240 s"
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGINT)
    said = first.communicate(timeout=120)[0]
    assert first.returncode == 130, said
    second = start(out)
    report = second.communicate(timeout=280)[0]
    assert second.returncode == 0, report
    return out, said, report


def test_an_interrupted_demo_says_so_and_goes_on_without_redoing_a_stage(
    finished: tuple[Path, str, str],
) -> None:
    _, said, report = finished
    assert "interrupted; what was finished is kept" in said
    assert "Traceback" not in said
    assert re.search(r"collect: experts over ROS 2 +done before", report)
    assert re.search(r"collect: the others in process +done before", report)


def test_the_success_table_is_the_last_thing_printed(finished: tuple[Path, str, str]) -> None:
    _, _, report = finished
    lines = report.strip().splitlines()
    assert "└" in lines[-1]
    assert any("deployed over" in line for line in lines[-12:])


def test_the_experts_came_through_ros_and_the_others_did_not(finished: tuple[Path, str, str]) -> None:
    out, _, _ = finished
    infos = Dataset.open(out / "data").infos()
    assert len(infos) == 25
    rows = json.loads((out / "ros-collect" / "results.json").read_text())["episodes"]
    assert [Path(row["file"]).name for row in rows] == [
        info.path.name for info in infos if info.attrs["operator"] == "expert"
    ]


def test_the_deployment_equals_the_policy_in_process_and_recorded_itself(
    finished: tuple[Path, str, str],
) -> None:
    out, _, _ = finished
    deployed = json.loads((out / "report.json").read_text())["deployment"]
    assert deployed["equal_in_process"], deployed["different_goals"]
    assert deployed["changed_by_limits"] == 0
    assert len(Dataset.open(Path(deployed["dataset"])).infos()) == 2


def test_the_reward_is_measured_on_episodes_that_nothing_was_fitted_to(
    finished: tuple[Path, str, str],
) -> None:
    out, _, _ = finished
    quality = json.loads((out / "report.json").read_text())["held_out_quality"]
    assert quality["episodes"] == 3
    assert 0 <= quality["true_preference_accuracy"] <= 1
    fitted, held_out = (
        {info.episode_id for info in Dataset.open(out / n).infos()} for n in ("data", "held-out")
    )
    assert len(held_out) == 3
    assert not fitted & held_out


def test_the_report_stands_alone(finished: tuple[Path, str, str]) -> None:
    page = (finished[0] / "report.html").read_text()
    for heading in ("Success on unseen goals", "Deployment over ROS 2", "Training curves", "Time"):
        assert heading in page
    assert "data:video/mp4;base64," in page
    assert page.count("data:image/png;base64,") == 2
    assert not re.search(r'(?:src|href)="(?!data:)', page)


def report(seed: int, rates: dict[str, list[bool]]) -> dict[str, Any]:
    return {
        "seed": seed,
        "success": [{"leg": name, "by_goal": goals} for name, goals in rates.items()],
        "reward_quality": {"success_above_best_decile": 0.99},
        "stages": [{"seconds": 10.0}],
        "machine": {},
    }


def test_the_bench_holds_only_when_every_bound_does() -> None:
    good = {"iql-true": [True] * 10, "iql-learned": [True] * 8 + [False] * 2}
    bad = {"iql-random": [False] * 10, "bc": [True] * 3 + [False] * 7}
    assert {leg.name for leg in LEGS} == {*good, *bad}
    summary = summarise([report(seed, good | bad) for seed in range(3)])
    assert summary["holds"]
    assert summary["figures"]["iql-learned_success_rate"] == 0.8
    assert summary["figures"]["learned_minus_bc"] == 0.5
    low, high = summary["figures"]["learned_minus_bc_interval_95"]
    assert low <= 0.5 <= high
    cloned = summarise([report(seed, good | bad | {"bc": [True] * 6 + [False] * 4}) for seed in range(3)])
    assert not cloned["holds"]
