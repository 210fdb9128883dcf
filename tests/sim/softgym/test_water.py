"""The water tasks: what SoftGym and RL-VLM-F say of them."""

from __future__ import annotations

import numpy as np
import pytest

from sim.softgym.env import SoftGymEnv
from sim.softgym.experts import expert
from sim.softgym.glass import Glass, in_glass
from sim.softgym.pass_water import TARGET_M, PassWater
from sim.softgym.pour_water import PourWater, _apart, _outline


def dropped_in(task: PassWater, inside: int, outside: int) -> None:
    """Water of which so many particles are in the glass and so many on the floor beside it."""
    glass = np.array([0.18, 0.18, 0.15])
    points = np.zeros((3, inside + outside))
    points[1, :inside], points[1, inside:], points[2, inside:] = 0.05, 0.004, 0.5
    task.begin({"p": points, "glass": glass})


def test_the_tasks_last_and_step_as_in_softgym() -> None:
    spec = SoftGymEnv("PassWater").spec
    assert (spec.horizon, spec.period_ns, len(spec.action_names)) == (75, 80_000_000, 1)
    assert len(spec.observation_names["state"]) == 7
    spec = SoftGymEnv("PourWater").spec
    assert (spec.horizon, spec.period_ns, len(spec.action_names)) == (100, 80_000_000, 3)
    assert len(spec.observation_names["state"]) == 13


def test_passing_water_is_scored_by_what_is_spilled_and_the_way_left() -> None:
    task = PassWater()
    dropped_in(task, 90, 10)
    assert task.score().reward == pytest.approx(-10.0 * 0.1 - TARGET_M)
    assert task.score().normalized == pytest.approx(0.0)
    np.testing.assert_allclose(task.state()[5:], [0.9, 0.1])
    dropped_in(task, 100, 0)
    task.x = 1.0
    assert task.score().reward == pytest.approx(-10.0 - 0.2), "the glass left its water behind"
    task.water.p[0] += 1.0
    assert task.score().reward == pytest.approx(-0.2)
    assert task.score().success
    assert task.score().normalized == pytest.approx(1.0 - 0.2 / 1.2)


def test_the_glass_stops_at_the_ends_of_its_line() -> None:
    task = PassWater()
    dropped_in(task, 10, 0)
    for _ in range(5):
        task.act(task.actions.lower)
    assert task.x == -0.25


def test_poured_water_counts_in_the_other_glass_alone() -> None:
    task = PourWater()
    points = np.zeros((3, 10))
    points[1] = 0.05
    points[0, :4] = 0.6
    task.begin({"p": points, "glasses": np.array([0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.6])})
    assert task.score().performance == pytest.approx(0.4)
    np.testing.assert_allclose(task.state()[-2:], [0.4, 0.6])


def test_the_glass_moves_neither_into_the_other_one_nor_into_the_ground() -> None:
    task = PourWater()
    points = np.full((3, 3), 0.05)
    task.begin({"p": points, "glasses": np.array([0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.4])})
    for _ in range(6):
        task.act(np.array([0.01, -0.01, 0.0]))
    np.testing.assert_array_equal(task.pose, np.zeros(3), "down is into the ground")
    for _ in range(6):
        task.act(np.array([0.01, 0.0, 0.0]))
    own, other = _outline(task.glass, *task.pose), _outline(task.target, 0.4, 0.0, 0.0)
    assert _apart(own, other) or _apart(other, own)
    assert 0.1 < task.pose[0] < 0.13
    assert not task._free(task.pose + np.array([0.011, 0.0, 0.0]))


def test_who_is_in_a_glass_is_softgyms_box() -> None:
    glass = Glass(0.2, 0.1, 0.3, 0.04)
    boxes = glass.boxes(1.0)
    places = np.array([
        [1.0, 0.1, 0.0], [1.13, 0.1, 0.0], [1.15, 0.1, 0.0], [1.0, 0.31, 0.0], [1.0, 0.33, 0.0],
        [1.0, 0.1, 0.1],
    ]).T  # fmt: skip
    assert in_glass(places, boxes, glass).tolist() == [True, True, False, True, False, False]


@pytest.mark.long
def test_the_expert_passes_water_and_spills_less_than_a_hundredth_where_haste_spills_more() -> None:
    env, act = SoftGymEnv("PassWater", split="evaluation"), expert("PassWater")
    for episode in range(3):
        step = env.reset(seed=0, episode=episode)
        while not step.truncated:
            step = env.step(act(step.observation["state"]))
        assert env.score.further["out_water"] < 0.01
        assert step.success
        env.reset(seed=0, episode=episode)
        for taken in range(30):
            step = env.step([1.0 if taken < 14 else 0.0])
        assert env.score.further["out_water"] > 0.01


@pytest.mark.long
def test_the_expert_pours_and_spills_about_a_hundredth_at_most() -> None:
    env, act = SoftGymEnv("PourWater", split="evaluation"), expert("PourWater")
    for episode in range(3):
        step = env.reset(seed=0, episode=episode)
        while not step.truncated:
            step = env.step(act(step.observation["state"]))
        assert env.score.normalized > 0.98
        assert step.success


@pytest.mark.parametrize("task", [PassWater(), PourWater()], ids=["pass", "pour"])
def test_a_task_goes_on_from_what_it_saved_and_begins_anew_as_it_began(task: PassWater | PourWater) -> None:
    rng = np.random.default_rng(0)
    points = np.stack(
        [rng.uniform(-0.06, 0.06, 120), rng.uniform(0.03, 0.12, 120), rng.uniform(-0.06, 0.06, 120)]
    )
    glasses = np.array([0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.6])
    initial = {"p": points, "glass": glasses[:3], "glasses": glasses}
    ends = []
    for _ in range(2):
        task.begin(initial)
        first = task.state()
        task.act(task.actions.upper)
        saved = task.save()
        task.act(0.5 * task.actions.lower)
        ends.append((first, task.state(), task.points(), task.score()))
    assert not np.array_equal(first, ends[0][1])
    task.begin(initial)
    task.restore(saved)
    task.act(0.5 * task.actions.lower)
    for begun, state, points_m, score in ends:
        np.testing.assert_array_equal(begun, ends[0][0])
        np.testing.assert_array_equal(state, task.state())
        np.testing.assert_array_equal(points_m, task.points())
        assert score == task.score()
