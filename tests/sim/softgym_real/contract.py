"""What a task of SoftGym's promises to armchair, whoever simulates it: a suite to inherit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from episodes.errors import ConfigError, ContractError
from sim.env import Step


class SoftGymContract:
    """Inherit, name a task, and say how it is made."""

    task = ""
    entries = 0
    """Numbers of the key point observation."""
    pickers = 2
    particles = 41
    """Particles of the point cloud, padding included; 0 where it takes no test."""
    horizon = 0
    repeat = 0
    way = ("", 0.0)
    """An action's entry, and how far the observation's of that name goes in one simulator step at 1, m."""

    @classmethod
    def make(cls, **options: Any) -> Any:
        """A new environment."""
        raise TypeError(f"{cls.__name__} must define make()")

    @classmethod
    def kept(cls) -> list[Path]:
        """The files of initial states."""
        raise TypeError(f"{cls.__name__} must define kept()")

    @pytest.fixture(scope="class")
    @classmethod
    def installation(cls) -> None:
        """What must be there before an environment is made."""

    @pytest.fixture(scope="class")
    @classmethod
    def env(cls, installation: None) -> Iterator[Any]:
        """One environment for all tests, each of which begins with a reset."""
        made = cls.make()
        yield made
        made.close()

    @pytest.fixture(scope="class")
    @classmethod
    def short(cls, installation: None) -> Iterator[Any]:
        """One whose episodes take three steps, of the evaluation split, with every particle in view."""
        made = cls.make(horizon=3, split="evaluation", observation="point_cloud")
        yield made
        made.close()

    def actions(self, env: Any, steps: int) -> NDArray[np.float64]:
        """(steps, dim) random ones."""
        return np.random.default_rng(0).uniform(-1.0, 1.0, (steps, len(env.spec.action_names)))

    def test_sizes_names_and_times_are_softgyms(self, env: Any) -> None:
        spec = env.spec
        assert spec.horizon == self.horizon
        assert spec.period_ns == self.repeat * 10_000_000
        assert len(spec.observation_names["state"]) == self.entries
        assert len(set(spec.observation_names["state"])) == self.entries
        assert set(spec.action_lower) == {-1.0}
        assert set(spec.action_upper) == {1.0}
        assert spec.cameras[0] == "default_camera"

    def test_a_reset_gives_an_observation_and_a_step_five_values(self, env: Any) -> None:
        for step in (env.reset(seed=0, episode=0), env.step(self.actions(env, 1)[0])):
            assert isinstance(step, Step)
            state = step.observation["state"]
            assert state.shape == (self.entries,)
            assert state.dtype == np.float64
            assert np.isfinite(state).all()
            kinds = [type(v) for v in (step.reward, step.terminated, step.truncated, step.success)]
            assert kinds == [float, bool, bool, bool]
            assert not step.terminated
            assert not step.truncated
        assert env.reset(seed=0, episode=1).reward == 0.0

    def test_performance_is_normalised_and_success_follows_from_it(self, env: Any) -> None:
        env.reset(seed=0, episode=0)
        for action in self.actions(env, 3):
            step, score = env.step(action), env.score
            assert score.performance == pytest.approx(step.reward)
            assert np.isfinite(score.normalized)
            assert score.success == step.success == self.solved(env)
            assert all(isinstance(value, float) for value in score.further.values())
        assert score.normalized == pytest.approx(self.normalized(env))

    def solved(self, env: Any) -> bool:
        """Whether the present state counts as solved."""
        raise TypeError(f"{type(self).__name__} must define solved()")

    def normalized(self, env: Any) -> float:
        """SoftGym's formula for the present state."""
        raise TypeError(f"{type(self).__name__} must define normalized()")

    def test_an_action_of_one_is_the_bound_of_softgyms_box(self, env: Any) -> None:
        entry, per_step_m = self.way
        at = env.spec.observation_names["state"].index(entry)
        for share in (0.5, 1.0, 9.0):
            before = env.reset(seed=0, episode=0).observation["state"][at]
            action = np.zeros(len(env.spec.action_names))
            action[0] = share
            after = env.step(action).observation["state"][at]
            way = min(share, 1.0) * per_step_m * self.repeat
            assert after - before == pytest.approx(way, rel=1e-3)

    def test_wrong_actions_are_refused_by_name_and_change_nothing(self, env: Any) -> None:
        action = self.actions(env, 1)[0]
        env.reset(seed=0, episode=0)
        expected = env.step(action).observation["state"]
        env.reset(seed=0, episode=0)
        for poison in (np.nan, np.inf):
            bad = action.copy()
            bad[-1] = poison
            with pytest.raises(ContractError, match=env.spec.action_names[-1]):
                env.step(bad)
        with pytest.raises(ContractError, match="shape"):
            env.step(np.zeros(len(action) + 1))
        np.testing.assert_array_equal(env.step(action).observation["state"], expected)

    def test_seed_and_episode_fix_the_initial_state_and_all_that_follows(self, env: Any) -> None:
        runs = []
        for seed, episode in ((3, 1), (3, 2), (3, 1)):
            steps = [env.reset(seed=seed, episode=episode), *map(env.step, self.actions(env, 2))]
            runs.append((env.variation, np.stack([step.observation["state"] for step in steps])))
        assert runs[0][0] == runs[2][0] != runs[1][0]
        np.testing.assert_array_equal(runs[0][1], runs[2][1])
        assert not np.array_equal(runs[0][1][0], runs[1][1][0])
        with pytest.raises(ConfigError, match="0 or more"):
            env.reset(seed=-1, episode=0)

    def test_done_at_the_horizon_is_truncation_and_splits_share_no_state(self, env: Any, short: Any) -> None:
        def states(of: Any) -> set[int]:
            return {of.variation for episode in range(3) if of.reset(seed=0, episode=episode)}

        assert max(states(env)) < min(states(short))
        steps = [short.step(action) for action in self.actions(short, 3)]
        assert [step.truncated for step in steps] == [False, False, True]
        assert not any(step.terminated for step in steps)
        with pytest.raises(RuntimeError, match="reset"):
            short.step(self.actions(short, 1)[0])

    def test_a_cloud_holds_every_particle_and_zeros_and_the_pickers(self, env: Any, short: Any) -> None:
        step = short.reset(seed=0, episode=0)
        state = step.observation["state"]
        assert state.shape == (3 * (self.particles + self.pickers),)
        points = short.points
        assert points.shape[1] == 3
        np.testing.assert_allclose(state[: points.size], points.ravel(), atol=1e-6)
        assert not state[points.size : 3 * self.particles].any()
        own, held = short.spec.observation_names["state"], env.spec.observation_names["state"]
        assert own[3 * self.particles :] == (held[-3 * self.pickers :] if self.pickers else ())

    def test_a_saved_state_goes_on_with_what_the_pickers_hold(self, env: Any) -> None:
        env.reset(seed=0, episode=2)
        first, *rest = self.actions(env, 5)
        middle, state = env.step(first), env.save_state()
        expected = [env.step(action) for action in rest]
        env.reset(seed=5, episode=0)
        again = env.restore_state(state)
        assert (again.reward, again.success) == (middle.reward, middle.success)
        np.testing.assert_array_equal(again.observation["state"], middle.observation["state"])
        for action, step in zip(rest, expected, strict=True):
            got = env.step(action)
            assert got.reward == step.reward
            np.testing.assert_array_equal(got.observation["state"], step.observation["state"])
        with pytest.raises(ConfigError, match=r"saved state"):
            env.restore_state(np.zeros(9, dtype=np.uint8))

    def test_pictures_are_of_the_asked_size_and_change_no_state(self, env: Any) -> None:
        env.reset(seed=0, episode=0)
        first = env.step(self.actions(env, 1)[0]).observation["state"]
        env.reset(seed=0, episode=0)
        picture = env.render("default_camera", 48, 64)
        assert picture.shape == (48, 64, 3)
        assert picture.dtype == np.uint8
        assert picture.std() > 1.0
        np.testing.assert_array_equal(env.step(self.actions(env, 1)[0]).observation["state"], first)
        env.reset(seed=0, episode=0)
        np.testing.assert_array_equal(env.render("default_camera", 48, 64), picture)
        with pytest.raises(ConfigError, match="no camera 'defalt_camera'"):
            env.render("defalt_camera", 8, 8)
        with pytest.raises(ConfigError, match="0x8"):
            env.render("default_camera", 0, 8)

    def test_kept_initial_states_are_taken_and_not_made_again(self, env: Any, short: Any) -> None:
        before = env.reset(seed=0, episode=0).observation["state"]
        files = {path: path.stat().st_mtime_ns for path in self.kept()}
        assert files
        other = self.make()
        try:
            with pytest.raises(RuntimeError, match="reset"):
                other.step(self.actions(env, 1)[0])
            np.testing.assert_array_equal(other.reset(seed=0, episode=0).observation["state"], before)
        finally:
            other.close()
            other.close()
        assert {path: path.stat().st_mtime_ns for path in self.kept() if path in files} == files


class RopeContract(SoftGymContract):
    """RopeFlatten, Lin et al. 2020."""

    task = "RopeFlatten"
    entries, horizon, repeat = 36, 75, 8
    way = ("picker0_x", 0.01)

    def normalized(self, env: Any) -> float:
        return 1.0 + env.score.performance / 0.5

    def solved(self, env: Any) -> bool:
        return bool(self.normalized(env) >= 0.95)


class EasyRopeContract(SoftGymContract):
    """RopeFlattenEasy, RL-VLM-F."""

    task = "RopeFlattenEasy"
    entries, horizon, repeat = 36, 40, 6
    way = ("picker0_x", 0.01)

    def normalized(self, env: Any) -> float:
        return 1.0 + env.score.performance / 0.5

    def solved(self, env: Any) -> bool:
        return bool(env.score.performance >= 0.95 * 0.5)


class PassWaterContract(SoftGymContract):
    """PassWater."""

    task = "PassWater"
    entries, pickers, particles, horizon, repeat = 7, 0, 13 * 13 * 13 * 4, 75, 8
    way = ("glass_x", 0.011)

    def normalized(self, env: Any) -> float:
        first = -1.2
        return (env.score.performance - first) / -first

    def solved(self, env: Any) -> bool:
        return bool(env.score.performance > -0.36)
