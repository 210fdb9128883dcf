"""What every environment promises, as tests to inherit (after dm_env's test_utils).

    class TestMyEnv(EnvConformance):
        def make(self) -> Env:
            return MyEnv(...)

pytest collects the inherited `test_` methods; none needs more than pytest itself. Environments without a
camera set `camera = None`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from episodes.errors import ContractError
from sim.env import Env, Step
from sim.render import contexts_open


class EnvConformance:
    """Inherit, and say how the environment is made."""

    camera: str | None = None
    """Camera for the tests on pixels."""
    size: tuple[int, int] = (48, 64)
    """Height and width of the test pictures; different, so that swapped sides show."""
    steps: int = 12
    """How far the tests run an episode; below the horizon."""

    def make(self) -> Env:
        """A new environment."""
        raise TypeError(f"{type(self).__name__} must define make()")

    @pytest.fixture
    def env(self) -> Iterator[Env]:
        """One environment, closed afterwards."""
        env = self.make()
        yield env
        env.close()

    def actions(self, env: Env, seed: int = 0) -> NDArray[np.float64]:
        """(steps, dim) random actions inside the bounds."""
        rng = np.random.default_rng(seed)
        spec = env.spec
        return rng.uniform(spec.action_lower, spec.action_upper, (self.steps, len(spec.action_lower)))

    def run(self, env: Env, episode: int = 0, seed: int = 0) -> list[Step]:
        """Reset and `steps` steps of random actions."""
        return [env.reset(seed=seed, episode=episode), *(env.step(action) for action in self.actions(env))]

    def picture(self, env: Env) -> NDArray[np.uint8]:
        """A picture, where there is a camera."""
        if self.camera is None:
            pytest.skip("this environment has no camera")
        return env.render(self.camera, *self.size)

    def test_the_spec_is_consistent(self, env: Env) -> None:
        spec = env.spec
        assert spec.period_ns > 0
        assert spec.horizon > 0
        assert spec.action_lower.shape == spec.action_upper.shape == (len(spec.action_names),)
        assert np.all(spec.action_lower < spec.action_upper)
        assert self.camera is None or self.camera in spec.cameras

    def test_observations_have_the_shape_of_the_spec_and_are_finite(self, env: Env) -> None:
        for step in self.run(env):
            assert set(step.observation) == set(env.spec.observation_names)
            for name, value in step.observation.items():
                assert value.shape == (len(env.spec.observation_names[name]),)
                assert value.dtype == np.float64
                assert np.all(np.isfinite(value))
            assert np.isfinite(step.reward)
            assert isinstance(step.reward, float)
            assert isinstance(step.success, bool)

    def test_an_observation_is_not_changed_by_later_steps(self, env: Env) -> None:
        first = env.reset(seed=0, episode=0)
        kept = {name: value.copy() for name, value in first.observation.items()}
        for action in self.actions(env):
            env.step(action)
        for name, value in kept.items():
            np.testing.assert_array_equal(first.observation[name], value)

    def test_seed_and_episode_alone_fix_a_trajectory(self, env: Env) -> None:
        first = self.run(env, episode=1)
        self.run(env, episode=2)
        assert_same(first, self.run(env, episode=1))
        other = self.make()
        assert_same(first, self.run(other, episode=1))
        other.close()

    def test_two_episodes_of_one_seed_differ(self, env: Env) -> None:
        first, second = self.run(env, episode=0)[0], self.run(env, episode=1)[0]
        assert any(not np.array_equal(first.observation[n], second.observation[n]) for n in first.observation)

    def test_pixels_have_the_asked_size_and_are_repeated_exactly(self, env: Env) -> None:
        self.run(env)
        picture = self.picture(env)
        assert picture.shape == (*self.size, 3)
        assert picture.dtype == np.uint8
        assert picture.std() > 1.0, "the picture is of one colour"
        self.run(env)
        np.testing.assert_array_equal(self.picture(env), picture)

    def test_drawing_does_not_change_the_trajectory(self, env: Env) -> None:
        plain = self.run(env)
        drawn = [env.reset(seed=0, episode=0)]
        for action in self.actions(env):
            self.picture(env)
            drawn.append(env.step(action))
        assert_same(plain, drawn)

    def test_a_saved_state_goes_on_as_the_original_did(self, env: Env) -> None:
        half = self.steps // 2
        actions = self.actions(env)
        env.reset(seed=0, episode=3)
        for action in actions[:half]:
            middle = env.step(action)
        state = env.save_state()
        rest = [env.step(action) for action in actions[half:]]
        picture = None if self.camera is None else self.picture(env)
        assert_same([middle], [env.restore_state(state)])
        assert_same(rest, [env.step(action) for action in actions[half:]])
        other = self.make()
        other.reset(seed=5, episode=0)
        assert_same([middle], [other.restore_state(state)])
        assert_same(rest, [other.step(action) for action in actions[half:]])
        if picture is not None:
            np.testing.assert_array_equal(self.picture(other), picture)
        other.close()

    def test_an_episode_is_truncated_at_the_horizon_and_never_both(self, env: Env) -> None:
        step = env.reset(seed=0, episode=0)
        taken = 0
        while not (step.terminated or step.truncated):
            step = env.step(np.zeros_like(env.spec.action_lower))
            taken += 1
            assert taken <= env.spec.horizon
        assert step.terminated != step.truncated
        assert step.terminated or taken == env.spec.horizon
        with pytest.raises(RuntimeError, match="reset"):
            env.step(np.zeros_like(env.spec.action_lower))

    def test_a_step_before_the_first_reset_is_refused(self, env: Env) -> None:
        with pytest.raises(RuntimeError, match="reset"):
            env.step(np.zeros_like(env.spec.action_lower))

    def test_a_non_finite_action_is_refused_by_name_and_changes_nothing(self, env: Env) -> None:
        actions = self.actions(env)
        expected = self.run(env)
        got = [env.reset(seed=0, episode=0)]
        for action in actions:
            for poison in (np.nan, np.inf, -np.inf):
                bad = action.copy()
                bad[-1] = poison
                with pytest.raises(ContractError, match=env.spec.action_names[-1]):
                    env.step(bad)
            got.append(env.step(action))
        assert_same(expected, got)

    def test_an_action_of_the_wrong_length_is_refused(self, env: Env) -> None:
        env.reset(seed=0, episode=0)
        with pytest.raises(ContractError, match="shape"):
            env.step(np.zeros(len(env.spec.action_lower) + 1))

    def test_an_action_beyond_the_bounds_acts_like_the_bound(self, env: Env) -> None:
        env.reset(seed=0, episode=0)
        at_bound = [env.step(env.spec.action_upper) for _ in range(3)]
        env.reset(seed=0, episode=0)
        assert_same(at_bound, [env.step(env.spec.action_upper * 7.0 + 3.0) for _ in range(3)])

    def test_closing_twice_and_opening_again_works(self) -> None:
        held = contexts_open()
        for _ in range(3):
            env = self.make()
            env.reset(seed=0, episode=0)
            if self.camera is not None:
                self.picture(env)
            env.close()
            env.close()
            assert contexts_open() == held

    @pytest.mark.long
    def test_opening_and_closing_200_times_leaks_no_memory_and_no_context(self) -> None:
        """What the first openings load stays loaded; after them the process grows no further, and neither
        do its GL contexts, open files and threads."""
        sizes, handles = [], []
        for _ in range(200):
            env = self.make()
            env.reset(seed=0, episode=0)
            if self.camera is not None:
                self.picture(env)
            env.close()
            sizes.append(resident_mib())
            handles.append((contexts_open(), open_files(), threading.active_count()))
        assert sizes[-1] - sizes[49] < 48.0, f"grew from {sizes[49]:.0f} to {sizes[-1]:.0f} MiB"
        assert handles[-1] == handles[49], "contexts, files and threads"


def resident_mib() -> float:
    """Memory of this process that is in RAM, MiB; Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def open_files() -> int:
    """File descriptors that this process holds; Linux."""
    return len(list(Path("/proc/self/fd").iterdir()))


def assert_same(first: list[Step], second: list[Step]) -> None:
    """Bit for bit the same steps."""
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert (a.reward, a.terminated, a.truncated, a.success) == (
            b.reward,
            b.terminated,
            b.truncated,
            b.success,
        )
        assert a.observation.keys() == b.observation.keys()
        for name in a.observation:
            np.testing.assert_array_equal(a.observation[name], b.observation[name])
