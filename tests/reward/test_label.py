"""The verb `label` from the command line: what it would cost, and ratings of clips by one's own server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from armchair import main as armchair
from episodes.dataset import Dataset
from reward.clients.protocol import Outcome, Verdict
from reward.drawing import rated_frames
from reward.frames import load_frames
from reward.label import _progress, _reporting
from reward.records import Budget
from reward.store import FILE, LabelStore
from tests.reward.conftest import picture
from tests.reward.test_store import PRICE, WHO
from tests.reward.wire import OPENAI, Asked, Reply, WireServer, openai_said


def test_a_dry_run_tells_questions_calls_and_money_and_asks_nobody(
    dataset: Dataset, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    words = ["label", str(dataset.path), "--judge", "openai", "--pairs", "30", "--swap", "--dry-run"]
    assert armchair(words) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "30 pairs or frames, 60 questions, 60 without an answer; nothing was asked." in said
    assert "120 calls, about 0.0" in said
    assert "budget" not in said
    assert armchair([*words, "--budget.calls", "100"]) == 0
    assert "more than the budget leaves" in capsys.readouterr().out
    assert not list(dataset.path.glob("labels.sqlite*")), "nothing is written"


def test_a_dry_run_counts_what_is_there_and_changes_none_of_it(
    dataset: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["label", str(dataset.path), "--pairs", "30"]
    assert armchair(words) == 0
    file = dataset.path / FILE
    before = file.read_bytes(), sorted(path.name for path in dataset.path.iterdir())
    capsys.readouterr()
    assert armchair([*words, "--dry-run"]) == 0
    assert ", 0 without an answer" in capsys.readouterr().out
    assert armchair([*words, "--seed", "5", "--dry-run"]) == 0
    assert ", 0 without an answer" not in capsys.readouterr().out
    assert (file.read_bytes(), sorted(path.name for path in dataset.path.iterdir())) == before


def test_clips_are_rated_by_a_server_of_ones_own(dataset: Dataset, capfd: pytest.CaptureFixture[str]) -> None:
    def respond(asked: Asked) -> Reply:
        (image,) = asked.images
        # A strip of three frames, enlarged to 336 pixels of height.
        assert image.shape[1] / image.shape[0] == pytest.approx((3 * 48 + 8) / 40, rel=0.02)
        return openai_said(json.dumps({"reason": "seen", "answer": "4"}))

    with WireServer(OPENAI, respond).running() as server:
        words = [
            *("label", str(dataset.path), "--judge", "openai", "--question", "progress", "--pairs", "6"),
            *("--openai.base-url", f"{server.url}/v1", "--openai.model", "qwen2.5vl:7b"),
            *("--show.frames", "3", "--show.stride", "2", "--vlm.method", "single"),
        ]
        assert armchair(words) == 0
        said = capfd.readouterr().out
        assert "6 of 6 frames have a value; 6 questions asked now" in said
        assert armchair(words) == 0
        assert "0 questions asked now" in capfd.readouterr().out
        assert len(server.asked) == 6
        assert not server.rejected
    assert {asked.key for asked in server.asked} == {"none"}
    frames = load_frames(dataset, "front")
    with LabelStore(dataset.path / FILE) as store:
        assert store.names() == ("qwen2.5vl-7b-progress",)
        rows, values = rated_frames(store, store.drawn("qwen2.5vl-7b-progress"), frames)
    assert len(set(rows.tolist())) == 6
    assert values.tolist() == [4.0] * 6
    assert picture(0).shape[:2] == (40, 48)
    network = ["--network.kernels", "5", "3", "--network.channels", "8", "8", "--network.strides", "3", "2"]
    brief = ["--optimise.early-stop", "none", "--optimise.epochs", "1", "--held-out", "0"]
    assert armchair(["fit", str(dataset.path), *network, *brief]) == 0
    assert "6 scored frames, 1 epochs" in capfd.readouterr().out


def test_progress_tells_what_this_run_and_all_runs_took(tmp_path: Path) -> None:
    with LabelStore(tmp_path / "l.sqlite") as store, _progress(Console(quiet=True)) as bar:
        store.reserve("a", ("x", "y"), WHO, PRICE, Budget())
        store.commit("a", Verdict(Outcome.FIRST, "", 1, 0, 0, 1.5))
        task = bar.add_task("asking", total=2, cost="")
        report = _reporting(bar, task, store)
        report(0, 2)
        store.reserve("b", ("x", "y"), WHO, PRICE, Budget())
        store.commit("b", Verdict(Outcome.FIRST, "", 1, 0, 0, 0.25))
        report(1, 2)
        assert bar.tasks[0].fields["cost"] == "0.25 USD, 1.75 in all"
        assert (bar.tasks[0].completed, bar.tasks[0].total) == (1, 2)
