"""Splits by episode, session and operator; statistics in one pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from episodes.align import align_episode
from episodes.dataset import Dataset, split_ids
from episodes.edits import Change
from episodes.errors import ConfigError, DatasetError
from episodes.sketch import Sketch
from episodes.split import SplitConfig, groups, split
from episodes.split import main as split_main
from episodes.statistics import statistics
from episodes.stats import StatsConfig
from episodes.stats import main as stats_main

MINUTE_NS = 60 * 10**9
T0_NS = 1_700_000_000 * 10**9


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def day(tmp_path: Path, contract: Any, robot: Any) -> Dataset:
    """Ten recordings in three sessions by two operators: anna 4, bert 2, anna 4 after lunch."""
    dataset = Dataset.create(tmp_path / "day", contract)
    plan = [("anna", m) for m in (0, 5, 10, 15)] + [("bert", m) for m in (18, 20)]
    plan += [("anna", m) for m in (90, 100, 110, 139)]
    for k, (operator, minute) in enumerate(plan):
        started_ns = T0_NS + minute * MINUTE_NS
        with dataset.new_writer(
            clock="ros", started_ns=started_ns, operator=operator, episode_id=f"e{k}"
        ) as writer:
            for step in range(3):
                at = started_ns + step * 50_000_000
                writer.append("state", robot.state(step), at, at)
            writer.finish("success" if k % 2 else "failure", "operator")
    return dataset


def test_sessions_end_with_a_pause_or_another_operator(day: Dataset) -> None:
    assert groups(day.infos(), "session") == {
        f"e{k}": ("e0" if k < 4 else "e4" if k < 6 else "e6") for k in range(10)
    }
    assert groups(day.infos(), "session", session_gap_s=25 * 60)["e9"] == "e9"
    assert set(groups(day.infos(), "operator").values()) == {"anna", "bert"}
    assert groups(day.infos(), "episode")["e3"] == "e3"


@pytest.mark.parametrize("by", ["session", "operator"])
def test_what_belongs_together_stays_together(day: Dataset, by: Any) -> None:
    members = groups(day.infos(), by)
    seen = set()
    for seed in range(6):
        made = split(day, SplitConfig(day.path, by=by, validation_fraction=0.3, seed=seed))
        assert sorted([*made["train"], *made["valid"]]) == day.ids()
        assert made["train"]
        assert made["valid"]
        assert {members[i] for i in made["train"]}.isdisjoint(members[i] for i in made["valid"])
        seen.add(tuple(made["valid"]))
    # Of groups with 4, 2 and 4 (or 8 and 2) episodes each that comes first brings 3 of 10 nearer, but not 8.
    assert all(len(valid) in (2, 4) for valid in seen)
    index = json.loads((day.path / "dataset.json").read_text())
    assert (index["split_by"], index["split_seed"]) == (by, 5)
    assert Dataset.open(day.path).splits == made


def test_a_split_needs_two_groups_and_names(day: Dataset, dataset: Dataset) -> None:
    for episode_id in ("e4", "e5"):
        day.edits.add([episode_id], Change(exclude=True), who="t", when_ns=0)
    with pytest.raises(DatasetError, match="all episodes are of one operator"):
        split(day, SplitConfig(day.path, by="operator"))
    with pytest.raises(DatasetError, match="names no operator"):
        split(dataset, SplitConfig(dataset.path, by="operator"))


def test_the_split_is_shown_with_its_outcomes(day: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    assert split_main(SplitConfig(day.path, by="session", validation_fraction=0.4, seed=1)) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert [row[1] for row in rows] == ["train", "valid"]
    assert sum(int(row[3]) for row in rows) == 10


@settings(max_examples=80, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=8),
    fraction=st.floats(0.0, 0.95),
    seed=st.integers(0, 99),
)
def test_any_split_is_whole_seeded_and_near_its_fraction(
    sizes: list[int], fraction: float, seed: int
) -> None:
    members = {f"{g}-{k}": f"g{g}" for g, size in enumerate(sizes) for k in range(size)}
    made = split_ids(members, seed, fraction, members)
    assert sorted([*made["train"], *made["valid"]]) == sorted(members)
    assert made == split_ids(reversed(list(members)), seed, fraction, members)
    assert {members[i] for i in made["train"]}.isdisjoint(members[i] for i in made["valid"])
    if len(sizes) > 1 and fraction > 0.0:
        assert made["train"]
        assert made["valid"]
        wanted = round(len(members) * fraction)
        assert abs(len(made["valid"]) - wanted) <= max(sizes) or len(set(members.values())) == 2


def test_without_groups_the_fraction_is_exact() -> None:
    ids = [f"e{k}" for k in range(50)]
    assert len(split_ids(ids, 0, 0.1)["valid"]) == 5
    assert split_ids(ids, 0, 0.1) != split_ids(ids, 1, 0.1)


@pytest.mark.parametrize("kind", ["normal", "heavy", "steps", "constant"])
def test_quantiles_of_a_stream_are_near_the_exact_ones(kind: str) -> None:
    rng = np.random.default_rng(0)
    values = {
        "normal": rng.normal(3.0, 2.0, 100_000),
        "heavy": rng.standard_cauchy(100_000),
        "steps": rng.integers(0, 5, 100_000).astype(float),
        "constant": np.full(100_000, -7.25),
    }[kind]
    parts = [Sketch() for _ in range(4)]
    for k, block in enumerate(np.array_split(values, 40)):
        parts[k % 4].add(block)
    sketch = parts[0]
    for part in parts[1:]:
        sketch.merge(part)
    assert sketch.count == 100_000
    assert (sketch.least, sketch.most) == (values.min(), values.max())
    assert sketch.mean == pytest.approx(values.mean(), rel=1e-9, abs=1e-9)
    assert sketch.deviation == pytest.approx(values.std(), rel=1e-9, abs=1e-9)
    ordered = np.sort(values)
    for share in (0.0, 0.001, 0.01, 0.25, 0.5, 0.75, 0.99, 0.999, 1.0):
        (found,) = sketch.quantiles([share])
        # The error counts in ranks, and is smallest at both ends.
        below, above = np.searchsorted(ordered, [found - 1e-9, found + 1e-9], "left") / len(values)
        slack = 0.02 * np.sqrt(share * (1.0 - share)) + 1e-4
        if kind in ("steps", "constant"):
            assert found == np.quantile(values, share)
        else:
            assert below - slack <= share <= above + slack


@settings(max_examples=60, deadline=None)
@given(blocks=st.lists(st.lists(st.floats(-1e6, 1e6), max_size=9), max_size=6))
def test_small_streams_are_exact(blocks: list[list[float]]) -> None:
    sketch = Sketch()
    for block in blocks:
        part = Sketch()
        part.add(block)
        part.add([np.nan, np.inf])
        sketch.merge(part)
    values = np.array([v for block in blocks for v in block])
    assert sketch.count == len(values)
    assert sketch.not_finite == 2 * len(blocks)
    if len(values):
        assert sketch.mean == pytest.approx(values.mean(), rel=1e-9, abs=1e-6)
        assert sketch.deviation == pytest.approx(values.std(), rel=1e-6, abs=1e-3)
        shares = np.linspace(0, 1, 9)
        np.testing.assert_allclose(
            sketch.quantiles(shares), np.quantile(values, shares), rtol=1e-9, atol=1e-9
        )
    else:
        assert np.isnan(sketch.quantiles([0.5])).all()


def test_statistics_are_those_of_the_samples(dataset: Dataset) -> None:
    found = statistics(dataset, pictures=0)
    states, actions, pictures = [], [], []
    for episode_id in dataset.ids():
        with dataset.read(episode_id) as episode:
            states.append(episode.stream("state").read())
            pictures.append(episode.stream("front").read())
            assert episode.commands is not None
            actions.append(episode.commands.values)
    state = np.concatenate(states)
    stream = found.streams["state"]
    assert stream.names == ("j0", "j1", "j2")
    assert (stream.samples, stream.episodes, stream.dropped) == (len(state), 3, 0)
    np.testing.assert_allclose([s.mean for s in stream.values], state.mean(axis=0))
    np.testing.assert_allclose([s.deviation for s in stream.values], state.std(axis=0))
    for k, sketch in enumerate(stream.values):
        np.testing.assert_allclose(sketch.quantiles([0.5]), np.median(state[:, k]))
    assert stream.rate_hz.mean == pytest.approx(20.0)
    flat = np.concatenate(pictures).reshape(-1, 3).astype(float)
    np.testing.assert_allclose([s.mean for s in found.streams["front"].values], flat.mean(axis=0))
    np.testing.assert_allclose([s.deviation for s in found.streams["front"].values], flat.std(axis=0))
    grip = np.concatenate(actions)[:, 2]
    expected, _ = np.histogram(grip, bins=20, range=(0.0, 1.0))
    assert found.histograms["grip"] == [0, *expected.tolist(), 0]
    assert found.sources == {"script": 33}
    assert found.outcomes == {("", "success", "sim"): 3}
    assert found.seconds.most == pytest.approx(0.6)


def test_statistics_honour_edits_and_do_not_depend_on_processes(dataset: Dataset) -> None:
    dataset.edits.add(["e0"], Change(exclude=True), who="t", when_ns=0)
    dataset.edits.add(["e1"], Change(trim=(0.1, 0.3), outcome="failure"), who="t", when_ns=0)
    found = statistics(dataset, workers=1)
    assert found.outcomes == {("", "success", "sim"): 1, ("", "failure", "operator"): 1}
    assert found.streams["state"].samples == 5 + 13
    with dataset.read("e1") as episode:
        assert len(align_episode(episode)) == 4
    parallel = statistics(dataset, workers=2)
    assert parallel.as_json(dataset.contract) == found.as_json(dataset.contract)


def test_statistics_count_what_is_outside_and_not_finite(
    dataset: Dataset, new_writer: Callable[..., Any], robot: Any
) -> None:
    with new_writer("odd") as writer:
        for k in range(4):
            at = robot.stamp_ns(k)
            writer.append("state", [np.nan, k, k], at, at)
            writer.append_command([2.0 * k - 3.0, 0.0, 0.0], at, at, at, 1)
        writer.count_drop("state", 3)
        writer.finish()
    found = statistics(dataset)
    assert found.streams["state"].values[0].not_finite == 4
    assert found.streams["state"].dropped == 3
    counts = found.histograms["j0"]
    assert (counts[0], counts[-1], sum(counts)) == (1, 1, 33 + 4)


def test_stats_prints_tables_and_json(dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    assert stats_main(StatsConfig(dataset.path, workers=1)) == 0
    out = capsys.readouterr().out
    for text in ("3 episodes", "state", "j2", "grip", "script 33", "█"):
        assert text in out
    assert stats_main(StatsConfig(dataset.path, json=True, workers=1, bins=4)) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "armchair/stats/1"
    assert found["outcomes"] == [{"task": "", "outcome": "success", "source": "sim", "episodes": 3}]
    assert found["streams"]["state"]["values"]["j0"]["max"] == 12.0
    assert len(found["actions"]["grip"]["below_bins_above"]) == 6
    with pytest.raises(ConfigError, match="--bins"):
        stats_main(StatsConfig(dataset.path, bins=0))
