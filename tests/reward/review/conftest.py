"""A dataset with a judge's answers, a room around it, and its page served to this machine."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from episodes.contract import Contract
from episodes.dataset import Dataset
from reward.asking import ask_pairs
from reward.ballots import VoteConfig
from reward.clients.protocol import Errand, Estimate, Kind, Outcome, Question, Setting, Verdict
from reward.drawing import DrawConfig, draw_pairs
from reward.review.gate import Names
from reward.review.page import ReviewConfig, make_room
from reward.review.room import Room
from reward.review.server import make_app
from reward.showing import ShowConfig, load_showing
from reward.store import FILE, LabelStore
from tests.reward.conftest import record
from tests.reward.review.serving import TOKEN

JUDGE = "gemini-x"
HOSTILE = "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'>"


class Talker:
    """A judge with reasons: unsure, malformed and hostile ones among them, and a favourite side."""

    paid, threads, prompt_version, name = False, 1, "preference-2@0", JUDGE

    def __init__(self, kind: Kind = Kind.PREFERENCE) -> None:
        self.asked, self._kind = 0, kind

    @property
    def settings(self) -> Mapping[str, Setting]:
        return {"goal": "to open the drawer", "question": self._kind.value}

    def estimate(self, question: Question) -> Estimate:
        return Estimate()

    def ask(self, question: Question, errand: Errand) -> Verdict:
        self.asked += 1
        if self._kind is not Kind.PREFERENCE:
            return Verdict(Outcome.RATED, "about half", value=3.0, calls=1, cost_usd=0.5)
        said = {1: Outcome.UNSURE, 2: Outcome.MALFORMED}.get(self.asked % 6, Outcome.FIRST)
        return Verdict(said, f"{HOSTILE} reason {self.asked}", calls=2, cost_usd=0.25)


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory, contract: Contract) -> Path:
    """A recorded dataset, to be copied."""
    dataset = Dataset.create(tmp_path_factory.mktemp("recorded") / "slides", contract)
    for number in range(4):
        record(dataset, number)
    return dataset.path


@pytest.fixture
def data(recorded: Path, tmp_path: Path) -> Dataset:
    shutil.copytree(recorded, tmp_path / "slides")
    return Dataset.open(tmp_path / "slides")


@pytest.fixture
def store(data: Dataset) -> Iterator[LabelStore]:
    with LabelStore(data.path / FILE) as opened:
        yield opened


@pytest.fixture
def judged_set(data: Dataset, store: LabelStore) -> Callable[..., str]:
    """Let a judge answer some pairs; gives the label set's name."""

    def ask(pairs: int = 12, *, swap: bool = False, kind: Kind = Kind.PREFERENCE, frames: int = 1) -> str:
        judge, labels = Talker(kind), JUDGE if kind is Kind.PREFERENCE else f"{JUDGE}-{kind}"
        show = load_showing(data, "front", ShowConfig(frames=frames))
        draw = DrawConfig(pairs=pairs)
        drawn = draw_pairs(store, labels, show, judge, draw, kind=kind, votes=VoteConfig(swap=swap))
        ask_pairs(store, show, judge, drawn)
        return labels

    return ask


@dataclass
class Clock:
    """Time that a test moves."""

    now_ns: int = 1

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(data: Dataset, store: LabelStore, clock: Clock) -> Callable[..., Room]:
    def made(**settings: Any) -> Room:
        draw = DrawConfig(pairs=settings.pop("pairs", 20))
        return make_room(ReviewConfig(data.path, draw=draw, **settings), data, store, clock)

    return made


@pytest.fixture
def client(make: Callable[..., Room]) -> Callable[..., TestClient]:
    def made(**settings: Any) -> TestClient:
        app = make_app(make(**settings), TOKEN, Names(8471), title="slides", person="anna")
        return TestClient(app, base_url=f"http://127.0.0.1:8471/{TOKEN}/")

    return made
