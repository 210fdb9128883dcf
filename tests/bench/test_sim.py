"""Bench `sim`: what it prints and judges; what it measures has a long form."""

from __future__ import annotations

import json

import pytest

from bench import sim
from bench.sim import SimBenchConfig, main
from bench.sim_pbd import BOUNDS
from bench.sim_scene import COLLECT_BOUNDS, RENDER_BOUNDS, measure_collect, measure_render
from episodes.errors import ConfigError


def figures(bounds: dict[str, dict[str, float]], factor: float) -> dict[str, float]:
    """Each bounded figure at its bound, times `factor`."""
    return {name: factor * next(iter(bound.values())) for name, bound in bounds.items()}


@pytest.mark.parametrize(("factor", "holds"), [(1.0, True), (0.5, False), (2.0, False)])
def test_every_bound_of_every_leg_is_judged(
    factor: float, holds: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pbd = {name: {"at_least": bound} for name, bound in BOUNDS.items()}
    monkeypatch.setattr(sim, "measure", lambda seconds: (figures(pbd, factor), "egl"))
    monkeypatch.setattr(sim, "measure_render", lambda: (figures(RENDER_BOUNDS, factor), "egl"))
    monkeypatch.setattr(sim, "measure_collect", lambda *sizes: figures(COLLECT_BOUNDS, factor))
    assert main(SimBenchConfig()) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["bounds"].keys() <= report["figures"].keys()
    assert len(report["bounds"]) == len(BOUNDS) + len(RENDER_BOUNDS) + len(COLLECT_BOUNDS)
    assert report["bounds"]["render_sawyer_frames_per_s"] == {"at_least": 200.0}
    assert report["bounds"]["collect_state_100_episodes_s"] == {"at_most": 4.0}
    assert report["holds"] is holds


def test_what_measures_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="more than nothing"):
        SimBenchConfig(legs=())
    with pytest.raises(ConfigError, match="2 or more"):
        SimBenchConfig(pictured=1)


@pytest.mark.long
def test_the_legs_measure_what_their_bounds_are_for() -> None:
    drawn, renderer = measure_render(turns=1)
    assert renderer
    assert RENDER_BOUNDS.keys() <= drawn.keys()
    assert drawn["sawyer_times_default_quality"] > 3.0
    assert all(value > 0.0 for value in drawn.values())
    collected = measure_collect(100, 2, 2)
    assert COLLECT_BOUNDS.keys() <= collected.keys()
    assert 1.0 < collected["pictures_times_drawing_alone"] < 2.0
