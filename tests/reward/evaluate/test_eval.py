"""`armchair reward eval` from recordings to page and figures."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from armchair import main as armchair
from episodes.dataset import Dataset
from episodes.labels import write_labels
from reward.ballots import VoteConfig
from reward.clients.protocol import Kind, Outcome
from reward.drawing import labelled_pairs
from reward.fitting import trained_on
from reward.frames import DIGEST, Frames, question_digests
from reward.labellers import ConstantConfig
from reward.quality import reward_quality
from reward.relabel import RelabelConfig, relabel
from reward.store import FILE, LabelStore
from tests.reward.conftest import STEPS, SUCCESS_FROM, positions
from tests.reward.evaluate.conftest import NUMBERS
from tests.reward.raters import compare, rate
from tests.reward.test_labellers import contents


def better(first: int, second: int, vote: int) -> Outcome:
    """The square further to the right."""
    return Outcome.UNSURE if first == second else Outcome.SECOND if second > first else Outcome.FIRST


def figures(
    dataset: Dataset, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Everything, and the labellers by name."""
    capsys.readouterr()
    quick = ["--resampling.count", "10", "--frames", "2"]
    assert armchair(["reward", "eval", str(dataset.path), "--json", *quick, *words]) == 0
    found = json.loads(capsys.readouterr().out)
    return found, {each["labeller"]: each for each in found["labellers"]}


def test_a_good_reward_a_useless_and_a_constant_one_are_told_apart(
    dataset: Dataset, rows: Frames, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(dataset.path / "episodes")
    compare(dataset, rows, "judge", better, pairs=120)
    relabel(RelabelConfig(dataset.path, kind="truth"))
    relabel(RelabelConfig(dataset.path, kind="random"))
    relabel(RelabelConfig(dataset.path, kind="constant", constant=ConstantConfig(0.5)))
    found, by_name = figures(dataset, capsys)
    assert (found["success_from"], found["true_reward"]) == ("the simulation", True)
    assert [each["labeller"] for each in found["labellers"]] == [
        "true-scaled",
        "constant-reward",
        "random-uniform",
    ]
    truth, random, constant = (by_name[name] for name in ("true-scaled", "random-uniform", "constant-reward"))
    assert truth["headline"]["value"] == 1.0
    assert "best decile" in truth["headline"]["name"]
    assert truth["labels"][0]["accuracy"]["value"] == 1.0
    assert truth["figures"]["tau_truth"]["value"] == pytest.approx(1.0)
    assert truth["figures"]["epic"]["value"] == pytest.approx(0.0, abs=0.02)
    assert truth["success_confusion"]["frames"]["f1"] == 1.0
    assert truth["advice"] == []
    assert random["headline"]["value"] < 0.5
    assert random["figures"]["pearson_distance"]["value"] == pytest.approx(0.707, abs=0.1)
    assert any("hover" in line for line in random["advice"])
    assert random["headline"]["low"] <= random["headline"]["value"] <= random["headline"]["high"]
    assert any("same for every frame" in line for line in constant["advice"])
    assert constant["figures"]["voc_successful"]["value"] is None
    assert contents(dataset.path / "episodes") == before


def test_headline_figures_are_those_that_relabel_and_fit_report(
    dataset: Dataset, rows: Frames, capsys: pytest.CaptureFixture[str]
) -> None:
    relabel(RelabelConfig(dataset.path, kind="random", seed=3))
    _, by_name = figures(dataset, capsys)
    rewards = np.concatenate([_read(dataset, n) for n in sorted(NUMBERS, key=str)])
    assert rows.success is not None
    judged = rows.judged
    quality = reward_quality(
        rewards, rows.episode[judged], success=rows.success[judged], truth=rows.truth[judged]
    )
    shown = by_name["random-uniform"]["figures"]
    for name in ("success_above_best_decile", "successful_episode_rank", "rank_correlation"):
        assert shown[name]["value"] == pytest.approx(getattr(quality, name))


def _read(dataset: Dataset, number: int) -> np.ndarray:
    from episodes.labels import read_labels

    return read_labels(dataset, "random-uniform", f"e{number}").reward


def test_a_real_robots_rewards_are_held_against_judges_alone(
    real: Dataset, rows: Frames, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = replace(rows, success=None, truth=np.full(len(rows), np.nan))
    for number in NUMBERS:
        write_labels(real, "mine", f"e{number}", positions(number)[1:] / 30)
    _, by_name = figures(real, capsys)
    assert by_name["mine"]["headline"]["value"] is None
    assert any("--question success" in line for line in by_name["mine"]["advice"])
    compare(real, bare, "judge", better, pairs=60)
    found, by_name = figures(real, capsys, "--held-out", "1.0")
    assert found["success_from"] is None
    assert by_name["mine"]["headline"]["value"] == 1.0
    assert "judge" in by_name["mine"]["headline"]["name"]
    rate(real, bare, "done", Kind.SUCCESS, lambda place: float(place >= SUCCESS_FROM), pairs=80)
    found, by_name = figures(real, capsys)
    assert found["success_from"] == "label set 'done'"
    assert by_name["mine"]["headline"]["value"] == 1.0
    assert by_name["mine"]["figures"]["success_above_best_decile"]["count"] == 80
    assert "tau_truth" in by_name["mine"]["figures"]
    assert by_name["mine"]["figures"]["tau_truth"]["value"] is None
    assert "pearson_distance" not in by_name["mine"]["figures"]
    ratings = next(each for each in by_name["mine"]["labels"] if each["labels"] == "done")
    assert 0 < ratings["pearson_distance"]["value"] < 0.6


def test_a_fitted_reward_is_tested_on_the_pairs_that_its_model_held_out(
    dataset: Dataset, rows: Frames, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(dataset, rows, "judge", better, pairs=100)
    card = {"sha256": "abc", "fit": {"config": {"held_out": 0.3}}}
    (dataset.path / "rewards" / "judge").mkdir(parents=True)
    (dataset.path / "rewards" / "judge" / "reward.json").write_text(json.dumps(card))
    with LabelStore(dataset.path / FILE) as store:
        keys = [
            pair.key
            for pair in store.drawn("judge")
            if store.outcomes([pair.key])[pair.key].label is not None
        ]
    held_out = sum(int(key[:8], 16) < 0.3 * 2**32 for key in keys)
    basis = {"basis": json.dumps({"kind": "model", "model": "abc"})}
    for number in NUMBERS:
        write_labels(dataset, "learned", f"e{number}", positions(number)[1:] / 30, attrs=basis)
    relabel(RelabelConfig(dataset.path, kind="truth"))
    found, by_name = figures(dataset, capsys)
    assert found["held_out"] == 0.3
    against = by_name["learned"]["labels"][0]
    assert (against["fitted"], against["accuracy"]["count"]) == (True, held_out)
    assert against["accuracy_fitted_pairs"]["count"] == len(keys) - held_out
    assert against["calibration"]["pairs"] == held_out
    unfitted = by_name["true-scaled"]["labels"][0]
    assert (unfitted["fitted"], unfitted["accuracy"]["count"]) == (False, len(keys))


def test_what_a_model_was_fitted_to_is_known_by_its_questions_whoever_answered_them(
    dataset: Dataset, rows: Frames, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(dataset, rows, "judge", better, pairs=60)
    compare(dataset, rows, "person", better, pairs=60, name="human:ann")  # the same seed draws the same
    compare(dataset, rows, "fresh", better, pairs=40, seed=7)
    with LabelStore(dataset.path / FILE) as store:
        pairs = labelled_pairs(store, store.drawn("judge"), rows, 0.0)
        fresh = labelled_pairs(store, store.drawn("fresh"), rows, 0.0)
    digests = trained_on(rows, pairs)
    assert len(digests) == DIGEST * len(pairs)
    card = {"sha256": "abc", "fit": {"config": {"held_out": 0.0}, "trained_on": digests}}
    (dataset.path / "rewards" / "judge").mkdir(parents=True)
    (dataset.path / "rewards" / "judge" / "reward.json").write_text(json.dumps(card))
    basis = {"basis": json.dumps({"kind": "model", "model": "abc"})}
    for number in NUMBERS:
        write_labels(dataset, "learned", f"e{number}", positions(number)[1:] / 30, attrs=basis)
    _, by_name = figures(dataset, capsys)
    against = {each["labels"]: each for each in by_name["learned"]["labels"]}
    for labels in ("judge", "person"):
        assert against[labels]["accuracy"]["value"] is None, "nothing was held out"
        assert against[labels]["accuracy_fitted_pairs"]["count"] == len(pairs)
    seen = sum(digest in digests for digest in question_digests(rows, fresh.first, fresh.second))
    assert against["fresh"]["accuracy"]["count"] == len(fresh) - seen > 30


def test_a_judge_is_measured_by_what_it_said_and_not_by_what_a_person_made_of_it(
    dataset: Dataset, rows: Frames, capsys: pytest.CaptureFixture[str]
) -> None:
    relabel(RelabelConfig(dataset.path, kind="truth"))
    wrong = lambda first, second, vote: better(second, first, vote)  # noqa: E731
    compare(dataset, rows, "wrong", wrong, pairs=30, name="wrong")
    compare(dataset, rows, "person", better, pairs=30, name="human:ann")
    with LabelStore(dataset.path / FILE) as store, store.transaction() as db:
        for position, pair in enumerate(store.drawn("person")):
            db.execute(
                "INSERT INTO overrulings SELECT labels, draw, ?, ? FROM draws WHERE labels='wrong'",
                (position, pair.key),
            )
    found, _ = figures(dataset, capsys)
    judges = {each["labels"]: each for each in found["judges"]}
    assert judges["wrong"]["accuracy"]["value"] == 0.0
    assert judges["person"]["accuracy"]["value"] == 1.0


def test_judges_are_measured_by_swaps_votes_people_and_the_truth(
    dataset: Dataset, rows: Frames, capsys: pytest.CaptureFixture[str]
) -> None:
    relabel(RelabelConfig(dataset.path, kind="truth"))
    always = lambda first, second, vote: Outcome.FIRST  # noqa: E731
    moody = lambda a, b, vote: better(a, b, 0) if vote == 0 else Outcome.UNSURE  # noqa: E731
    compare(dataset, rows, "lazy", always, pairs=30, name="lazy", votes=VoteConfig(swap=True))
    compare(dataset, rows, "moody", moody, pairs=30, name="moody", votes=VoteConfig(votes=3))
    compare(dataset, rows, "careful", better, pairs=60, name="careful")
    # The same seed draws the same pairs, so a person and a judge meet on them.
    compare(dataset, rows, "person", better, pairs=60, name="human:ann")
    found, _ = figures(dataset, capsys)
    judges = {each["labels"]: each for each in found["judges"]}
    assert judges["lazy"]["swap_consistency"]["value"] == 0.0
    assert any("swapped" in line for line in judges["lazy"]["advice"])
    assert judges["moody"]["self_agreement"]["value"] == pytest.approx(1 / 3, abs=0.15)
    assert any("two votes" in line for line in judges["moody"]["advice"])
    assert judges["careful"]["accuracy"]["value"] == 1.0
    assert judges["careful"]["swap_consistency"]["value"] is None
    (agreed,) = [
        each for each in found["agreement"] if {each["first"], each["second"]} == {"human:ann", "careful"}
    ]
    assert agreed["kappa"] == pytest.approx(1.0)
    assert agreed["decided"] > 30


def test_a_success_judge_is_held_against_the_simulation(
    dataset: Dataset, rows: Frames, capsys: pytest.CaptureFixture[str]
) -> None:
    relabel(RelabelConfig(dataset.path, kind="truth"))
    rate(dataset, rows, "eager", Kind.SUCCESS, lambda place: float(place >= SUCCESS_FROM - 6), pairs=80)
    found, _ = figures(dataset, capsys)
    confusion = found["judges"][0]["success_confusion"]
    assert confusion["false_negatives"] == 0
    assert confusion["false_positives"] > 0
    assert confusion["recall"] == 1.0
    assert sum(confusion[k] for k in confusion if k.startswith(("true", "false"))) == 80


def test_the_page_stands_alone_and_runs_nothing(
    dataset: Dataset, rows: Frames, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "<script>alert(1)</script>"
    compare(dataset, rows, evil, better, pairs=40)
    relabel(RelabelConfig(dataset.path, kind="truth"))
    out = tmp_path / "report"
    assert armchair(["reward", "eval", str(dataset.path), "--out", str(out), "--labels", evil]) == 0
    assert str(out / "index.html") in capsys.readouterr().out.replace("\n", "")
    page = (out / "index.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.findall(r"https?:|src=.//|href=.[^#]|@import|url\(", page)
    assert set(re.findall(r'src="(data:image/(?:png|jpeg);base64,)?', page)) == {
        "data:image/png;base64,",
        "data:image/jpeg;base64,",
    }
    for title in ("best", "worst", "highest without success", "lowest with success"):
        assert f"<h3>{title}</h3>" in page
    assert sorted(path.name for path in out.iterdir()) == ["figures.json", "index.html"]
    saved = json.loads((out / "figures.json").read_text())
    assert saved["schema"] == "armchair/reward-eval/1"
    assert saved["labellers"][0]["labeller"] == "true-scaled"


def test_rewards_that_are_missing_or_not_valid_are_told(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_labels(dataset, "partial", "e1", positions(1)[1:] / 30)
    write_labels(dataset, "empty", "e1", np.zeros(STEPS), np.zeros(STEPS, np.bool_))
    _, by_name = figures(dataset, capsys)
    assert any("5 of 6 episodes have no rewards" in line for line in by_name["partial"]["advice"])
    assert any("Not one reward is valid" in line for line in by_name["empty"]["advice"])
    assert by_name["empty"]["headline"]["value"] is None
    assert by_name["empty"]["frames"] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--labeller", "lerned"], "did you mean 'learned'"),
        (["--labels", "nobody"], "nothing was labelled yet"),
        (["--held-out", "0"], "held-out 0.0 is a share"),
        (["--success-labels", "done"], "nothing was labelled yet"),
    ],
)
def test_what_is_not_there_is_said(
    dataset: Dataset, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_labels(dataset, "learned", "e1", np.ones(STEPS))
    assert armchair(["reward", "eval", str(dataset.path), *words]) == 2
    assert said in capsys.readouterr().err
