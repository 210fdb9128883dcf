"""Labels out and in, replayed, counted, and told about."""

from __future__ import annotations

import json
import pickle
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from armchair import main as armchair
from episodes.dataset import Dataset
from episodes.errors import ConfigError, DatasetError, LabelError
from reward.asking import ask_pairs
from reward.cached_pairs import cached_pairs
from reward.clients.protocol import (
    Bill,
    Estimate,
    FreeErrand,
    JudgeIdentity,
    Kind,
    Outcome,
    Picture,
    Question,
    Verdict,
)
from reward.clients.replay import MISSING, Replay, ReplayConfig
from reward.clients.scripted import ScriptedConfig, ScriptedTeacher
from reward.drawing import DrawConfig, draw_pairs, labelled_pairs, rated_frames
from reward.exchange import export_labels, import_labels, read_answers, stored_answers
from reward.frames import Frames, load_frames
from reward.label_store import costs_of
from reward.records import Ballot, Budget, DrawnPair, StoredAnswer, answer_key
from reward.store import FILE, LabelStore
from tests.reward.conftest import picture

ANSWERED, DOUBTED = "a" * 10, "b" * 10
TEACHER = ScriptedTeacher(ScriptedConfig(mistakes=0.1))


@pytest.fixture
def labelled(dataset: Dataset) -> Dataset:
    frames = load_frames(dataset, "front")
    with LabelStore(dataset.path / FILE) as store:
        pairs = draw_pairs(store, "scripted", frames, TEACHER, DrawConfig(pairs=40))
        ask_pairs(store, frames, TEACHER, pairs)
    return dataset


def test_an_export_brought_into_another_dataset_gives_the_same_labels(
    labelled: Dataset,
    make_dataset: Callable[..., Dataset],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "deep" / "labels.jsonl"
    assert armchair(["label", "export", str(labelled.path), str(out)]) == 0
    other = make_dataset("other")
    with LabelStore(labelled.path / FILE) as store:
        count = len(list(stored_answers(store)))
    for added in (count, 0):
        assert armchair(["label", "import", str(other.path), str(out)]) == 0
        assert f"{added} answers and" in capsys.readouterr().out
    frames, found = load_frames(other, "front"), []
    for each in (labelled, other):
        with LabelStore(each.path / FILE) as store:
            found.append(labelled_pairs(store, store.drawn("scripted"), frames, 0.2))
    for a, b in zip(vars(found[0]).values(), vars(found[1]).values(), strict=True):
        np.testing.assert_array_equal(a, b)
    with LabelStore(tmp_path / "third.sqlite") as store:
        assert import_labels(store, labelled.path / FILE).answers == count


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: ["{}", *lines[1:]], "names no armchair-labels"),
        (lambda lines: [lines[0].replace('"version": 1', '"version": 9'), *lines[1:]], "version 9"),
        (lambda lines: [lines[0], lines[1].replace('"vote": 0', '"vote": 1')], "does not fit"),
        (lambda lines: [lines[0], lines[1].replace('"outcome": "', '"outcome": "x')], "not an answer"),
        (lambda lines: [lines[0], lines[1][:50]], "not an export"),
        (lambda lines: [lines[0], "[1]"], "no object"),
        (lambda lines: [], "not an export"),
    ],
)
def test_a_changed_export_is_refused_and_nothing_of_it_kept(
    labelled: Dataset, tmp_path: Path, change: Callable[[list[str]], list[str]], message: str
) -> None:
    out = tmp_path / "labels.jsonl"
    with LabelStore(labelled.path / FILE) as store:
        export_labels(store, out)
    out.write_text("\n".join(change(out.read_text().splitlines())))
    with LabelStore(tmp_path / "new.sqlite") as store:
        with pytest.raises(LabelError, match=message):
            import_labels(store, out)
        assert store.names() == ()


def test_replay_answers_what_was_answered_in_either_order(labelled: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "labels.jsonl"
    with LabelStore(labelled.path / FILE) as store:
        export_labels(store, out)
    for source in (out, labelled.path / FILE):
        replay = Replay(ReplayConfig(source))
        # The teacher's settings name no kind of question: they are preferences.
        assert len(replay) == len({a.pictures for a in read_answers(source)})
        frames = load_frames(labelled, "front")
        with LabelStore(tmp_path / f"{source.suffix}.sqlite") as store:
            pairs = draw_pairs(store, "replay", frames, replay, DrawConfig(pairs=40))
            summary = ask_pairs(store, frames, replay, pairs)
            labels = labelled_pairs(store, pairs, frames, 0.0)
        assert summary.usable == len(labels) > 20
    known = next(iter(read_answers(out)))
    one, two = Picture(picture(1)), Picture(picture(30))
    assert replay.ask(Question(one, two), FreeErrand()).outcome in Outcome
    straight = replay._answers[known.pictures]
    replay._answers = {(one.digest, two.digest): straight}
    assert replay.ask(Question(two, one), FreeErrand()).outcome is straight.outcome.swapped
    assert replay.ask(Question(one, one), FreeErrand()) == Verdict(Outcome.UNSURE, MISSING)


def cached_file(path: Path, *, scores: bool = False) -> list[np.ndarray]:
    firsts, seconds = [3, 20, 7, 5], [20, 4, 8, 5]
    pairs = [np.concatenate([picture(a), picture(b)], axis=1) for a, b in zip(firsts, seconds, strict=True)]
    labels = np.array([[1], [0], [1], [1]]) if not scores else np.array([[0.5], [-1.0], [0.0], [1.0]])
    entries = [
        np.stack(pairs),
        np.array([[1], [0], [1], [1]]),
        labels,
        *(np.zeros((4, 1, 2)) for _ in range(4)),
    ]
    path.write_bytes(pickle.dumps(entries))
    return entries


def test_cached_labels_are_replayed_by_their_pictures(tmp_path: Path) -> None:
    cached_file(tmp_path / "2024-10-24-10-00-00.pkl")
    replay = Replay(ReplayConfig(tmp_path))

    def outcome(a: int, b: int) -> Outcome:
        return replay.ask(Question(Picture(picture(a)), Picture(picture(b))), FreeErrand()).outcome

    assert (outcome(3, 20), outcome(20, 3), outcome(20, 4)) == (Outcome.SECOND, Outcome.FIRST, Outcome.FIRST)
    assert outcome(1, 2) is Outcome.UNSURE
    with pytest.raises(ConfigError, match="no answers to the question 'score'"):
        Replay(ReplayConfig(tmp_path), Kind.SCORE)
    cached_file(tmp_path / "2024-10-25-10-00-00.pkl", scores=True)
    scores = Replay(ReplayConfig(tmp_path), Kind.SCORE)
    assert scores.ask(Question(Picture(picture(20))), FreeErrand()).value == 0.75


def test_cached_labels_of_an_unsure_judge_stay_unsure(tmp_path: Path) -> None:
    entries = cached_file(tmp_path / "2024-10-24-10-00-00.pkl")
    entries[2][1] = -1
    (tmp_path / "2024-10-24-10-00-00.pkl").write_bytes(pickle.dumps(entries))
    found = Replay(ReplayConfig(tmp_path)).ask(
        Question(Picture(picture(20)), Picture(picture(4))), FreeErrand()
    )
    assert (found.outcome, found.text) == (Outcome.UNSURE, "2024-10-24-10-00-00.pkl, pair 1")


def test_replay_is_of_one_judge_and_one_goal_and_prefers_what_could_be_read(tmp_path: Path) -> None:
    one, two = Picture(picture(3)), Picture(picture(20))
    pictures = (one.digest, two.digest)

    def said(judge: str, goal: str, prompt: str, outcome: Outcome) -> StoredAnswer:
        who = JudgeIdentity(judge, prompt, {"question": "preference", "goal": goal})
        return StoredAnswer(answer_key(*pictures, who), pictures, who, 0, Verdict(outcome, "said"))

    with LabelStore(tmp_path / FILE) as store:
        store.add_answers(
            [
                *(said("gemini", "open it", f"v{k}", Outcome.MALFORMED) for k in range(8)),
                said("gemini", "open it", "v9", Outcome.SECOND),
                said("gemini", "close it", "v9", Outcome.FIRST),
                said("gpt", "open it", "v9", Outcome.FIRST),
            ]
        )
    source = tmp_path / FILE
    replay = Replay(ReplayConfig(source, "gemini"), Kind.PREFERENCE, "open it")
    assert replay.ask(Question(one, two), FreeErrand()).outcome is Outcome.SECOND
    with pytest.raises(ConfigError, match=r"several judges; give --replay\.judge: gemini, gpt"):
        Replay(ReplayConfig(source), Kind.PREFERENCE, "open it")
    with pytest.raises(ConfigError, match="several goals; give --goal: close it, open it"):
        Replay(ReplayConfig(source, "gemini"))
    with pytest.raises(
        ConfigError, match="no answers to the question 'preference' by 'gpt' about 'close it'"
    ):
        Replay(ReplayConfig(source, "gpt"), Kind.PREFERENCE, "close it")


def test_a_reward_model_is_fitted_to_cached_labels(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cached_file(tmp_path / "a.pkl")
    frames, pairs = cached_pairs(tmp_path, (40, 48), 0.0)
    assert len(pairs) == 3, "equal pictures are no pair"
    np.testing.assert_array_equal(frames.images[pairs.second[0]], picture(20))
    np.testing.assert_array_equal(pairs.label, [1, 0, 1])
    assert cached_pairs(tmp_path, (20, 24), 0.0)[0].images.shape[1:] == (20, 24, 3)
    network = ["--network.kernels", "5", "3", "--network.channels", "8", "8", "--network.strides", "3", "2"]
    words = [
        "fit",
        str(dataset.path),
        "--cached",
        str(tmp_path),
        "--optimise.epochs",
        "1",
        "--held-out",
        "0",
        "--optimise.early-stop",
        "none",
    ]
    assert armchair([*words, *network]) == 0
    assert (dataset.path / "rewards" / "cached").is_dir()
    cached_file(tmp_path / "a.pkl", scores=True)
    with pytest.raises(DatasetError, match="no preference labels"):
        cached_pairs(tmp_path, (40, 48), 0.0)


def test_values_of_single_frames_are_the_mean_of_their_votes(frames: Frames, tmp_path: Path) -> None:
    who = JudgeIdentity("m", "score-1@0", {"question": "score"})
    with LabelStore(tmp_path / "l.sqlite") as store:
        pairs = [DrawnPair(frames.id(3), None, (Ballot("a"), Ballot("b", vote=1)))]
        pairs += [DrawnPair(frames.id(5), None, (Ballot("c"),))]
        store.add_draw("s", "d", {}, pairs)
        store.add_answers(
            StoredAnswer(key, ("x", ""), who, 0, Verdict(Outcome.RATED, value=value))
            for key, value in (("a", 0.25), ("b", 0.75))
        )
        rows, values = rated_frames(store, store.drawn("s"), frames)
    assert (rows.tolist(), values.tolist()) == ([3], [0.5])


def test_cost_tells_answers_from_what_led_to_none(tmp_path: Path) -> None:
    who, price = JudgeIdentity("m", "p", {}), Estimate(2, 0.01)
    with LabelStore(tmp_path / "l.sqlite") as store:
        for key in "abc":
            store.reserve(key, ("x", "y"), who, price, Budget())
        store.commit("a", Verdict(Outcome.FIRST, "", 2, 600, 40, 0.004))
        store.release("b", who, Bill(3, 600, 0, 0.002))
        (cost,) = costs_of(store)
    assert (cost.answers, cost.calls, cost.input_tokens) == (1, 7, 1200)
    assert cost.cost_usd == pytest.approx(0.016)
    assert (cost.reserved_usd, cost.unanswered_usd) == (pytest.approx(0.01), pytest.approx(0.002))


def test_status_and_cost_are_told_in_words_and_as_json(
    labelled: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(labelled.path)
    assert armchair(["label", "status", path, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["labels"], found["pairs"], found["open"]) == ("scripted", 40, 0)
    assert found["answered"] == found["questions"]
    assert found["reports"][0]["task"] == "slide"
    assert armchair(["label", "cost", path, "--json"]) == 0
    (cost,) = json.loads(capsys.readouterr().out)
    assert (cost["judge"], cost["answers"], cost["cost_usd"]) == ("scripted", found["answered"], 0.0)
    for verb in ("status", "cost"):
        assert armchair(["label", verb, path]) == 0
        assert "scripted" in capsys.readouterr().out


def test_a_dataset_without_labels_says_so(dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["status"], ["cost"], ["export"]):
        arguments = [str(dataset.path), *(["x.jsonl"] if words == ["export"] else [])]
        assert armchair(["label", *words, *arguments]) == 2
        assert "nothing was labelled yet" in capsys.readouterr().err
    assert not (dataset.path / FILE).exists()


def test_a_store_of_the_first_version_is_read_and_goes_on(frames: Frames, tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    db = sqlite3.connect(path)
    db.executescript(
        """
        CREATE TABLE answers (key TEXT PRIMARY KEY, first_sha256 TEXT NOT NULL, second_sha256 TEXT NOT NULL,
            judge TEXT NOT NULL, prompt_version TEXT NOT NULL, settings TEXT NOT NULL, state TEXT NOT NULL,
            outcome TEXT, text TEXT, calls INTEGER NOT NULL, input_tokens INTEGER NOT NULL DEFAULT 0,
            output_tokens INTEGER NOT NULL DEFAULT 0, cost_usd REAL NOT NULL) WITHOUT ROWID;
        CREATE TABLE steps (key TEXT NOT NULL, step TEXT NOT NULL, text TEXT NOT NULL, PRIMARY KEY (key,
        step))
            WITHOUT ROWID;
        CREATE TABLE draws (labels TEXT NOT NULL, draw TEXT NOT NULL, number INTEGER NOT NULL,
            settings TEXT NOT NULL, PRIMARY KEY (labels, draw)) WITHOUT ROWID;
        CREATE TABLE pairs (labels TEXT NOT NULL, draw TEXT NOT NULL, position INTEGER NOT NULL,
            first_episode TEXT NOT NULL, first_index INTEGER NOT NULL, second_episode TEXT NOT NULL,
            second_index INTEGER NOT NULL, key TEXT NOT NULL, PRIMARY KEY (labels, draw, position))
            WITHOUT ROWID;
        INSERT INTO draws VALUES ('g', 'd', 0, '{}');
        INSERT INTO pairs VALUES ('g', 'd', 0, 'e0', 1, 'e1', 2, 'aaaaaaaaaa'), ('g', 'd', 1, 'e0', 3,
        'e1', 4, 'bbbbbbbbbb');
        INSERT INTO answers VALUES ('aaaaaaaaaa', 'a', 'b', 'm', 'p', '{}', 'answered', 'second', 't', 2,
        6, 4, 0.5),
            ('bbbbbbbbbb', 'a', 'c', 'm', 'p', '{}', 'reserved', NULL, NULL, 2, 0, 0, 0.1);
        INSERT INTO steps VALUES ('bbbbbbbbbb', 'describe', 'a drawer');
        PRAGMA user_version=1;
        """
    )
    db.close()
    before = path.read_bytes()
    with LabelStore(tmp_path / "mine.sqlite") as mine:
        assert import_labels(mine, path).answers == 1
    assert path.read_bytes() == before, "somebody else's file stays as it is"
    assert sorted(file.name for file in tmp_path.iterdir() if file.is_file()) == [FILE, "mine.sqlite"]
    with LabelStore(path) as store:
        assert [pair.ballots for pair in store.drawn("g")] == [(Ballot(ANSWERED),), (Ballot(DOUBTED),)]
        assert store.outcomes([ANSWERED]) == {ANSWERED: Outcome.SECOND}
        assert store.in_doubt([DOUBTED]) == {DOUBTED}
        assert store.recall(DOUBTED, "describe") == ("a drawer", Bill())
        assert store.spending().calls == 4
        np.testing.assert_array_equal(labelled_pairs(store, store.drawn("g"), frames, 0.0).label, [1.0])


def test_keys_do_not_depend_on_who_asks_or_where() -> None:
    who = JudgeIdentity("m", "p", {"a": 1, "b": 2})
    assert answer_key("x", "y", who) == answer_key("x", "y", JudgeIdentity("m", "p", {"b": 2, "a": 1}))
