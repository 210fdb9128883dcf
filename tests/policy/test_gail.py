"""GAIL: its trust-region step against numpy and explicit Hessians, and a small world to learn in."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from episodes.errors import ConfigError
from policy.algorithms.gail import GAILConfig, discriminator_loss, imitation_reward, surrogate
from policy.checkpoint import load_state
from policy.export import ExportConfig, export
from policy.live import Live
from policy.metrics import read_metrics
from policy.normalise import ActionRange, Normaliser
from policy.run import load_policy
from policy.train import train
from policy.training import BatchSampler
from policy.transitions import Transitions
from policy.trust_region import (
    TrustRegion,
    conjugate_gradient,
    gaussian_kl,
    generalised_advantages,
    trust_region_step,
)
from tests.policy.states import assert_same_bits, final, interrupt_and_resume, log

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
SIMULATED = "simulation: {environment: point/home}\n"
GAIN = 0.8


@dataclass(frozen=True)
class Point:
    """A step of the point's world."""

    position: np.ndarray
    terminated: bool = False
    truncated: bool = False
    reward: float = 0.0
    success: bool = False

    @property
    def observation(self) -> dict[str, np.ndarray]:
        return {"state": self.position}


@dataclass
class PointWorld:
    """A point that is to go home: s′ = s + 0.4 a. The linear-quadratic expert acts a = −0.8 s."""

    horizon: int = 12
    dim: int = 2
    steps: int = 0
    starts: list[tuple[int, int]] = field(default_factory=list)
    position: np.ndarray = field(default_factory=lambda: np.zeros(2))

    def reset(self, *, seed: int, episode: int) -> Point:
        self.steps = 0
        self.starts.append((seed, episode))
        self.position = np.random.default_rng((seed, episode)).uniform(-1, 1, self.dim)
        return Point(self.position)

    def step(self, action: np.ndarray) -> Point:
        assert np.abs(action).max() <= 1
        self.steps += 1
        self.position = self.position + 0.4 * action
        cost = float(np.square(self.position).sum())
        return Point(self.position, truncated=self.steps >= self.horizon, reward=-cost, success=cost < 0.01)


def expert_rows(episodes: int, world: PointWorld) -> Transitions:
    before, after, actions = [], [], []
    for episode in range(episodes):
        step = world.reset(seed=100, episode=episode)
        while not step.truncated:
            actions.append(-GAIN * step.position)
            before.append(step.position)
            step = world.step(actions[-1])
            after.append(step.position)
    s, a, s_next = (torch.tensor(np.array(x), dtype=torch.float32) for x in (before, actions, after))
    zeros = torch.zeros(len(a))
    return Transitions(s, a, zeros, s_next, zeros, zeros)


def live(world: PointWorld) -> Live:
    return Live(world, Normaliser(np.zeros(2), np.ones(2)), ActionRange(-np.ones(2), np.ones(2)), ("state",))


def test_conjugate_gradients_solve_what_numpy_solves() -> None:
    rng = np.random.default_rng(0)
    half = rng.normal(size=(8, 8))
    matrix, b = half @ half.T + 0.1 * np.eye(8), rng.normal(size=8)
    a = torch.from_numpy(matrix)
    found = conjugate_gradient(lambda x: a @ x, torch.from_numpy(b), 40)
    np.testing.assert_allclose(found.numpy(), np.linalg.solve(matrix, b), rtol=1e-5)


def test_the_advantages_are_the_sum_of_discounted_errors() -> None:
    rng = np.random.default_rng(0)
    r, v, ahead = (rng.normal(size=7) for _ in range(3))
    delta = r + 0.9 * ahead - v
    expected = [sum((0.9 * 0.8) ** (k - t) * delta[k] for k in range(t, 7)) for t in range(7)]
    found = generalised_advantages(*(torch.from_numpy(x) for x in (r, v, ahead)), 0.9, 0.8)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10)


def test_the_divergence_is_that_of_torch_distributions() -> None:
    m, n = torch.randn(5, 3), torch.randn(5, 3)
    a, b = torch.randn(3), torch.randn(3)
    p, q = (torch.distributions.Normal(x, y.exp()) for x, y in ((m, a), (n, b)))
    expected = torch.distributions.kl_divergence(p, q).sum(dim=-1)
    torch.testing.assert_close(gaussian_kl(m, a, n, b), expected)


def test_a_trust_region_step_is_the_natural_gradient_and_keeps_its_bound() -> None:
    """For N(θ, 1) the Fisher matrix is 1: the step along gradient g is √(2δ/gᵀ(1+c)⁻¹g) (1+c)⁻¹ g."""
    theta = torch.nn.Parameter(torch.tensor([0.3, -0.2], dtype=torch.float64))
    old, g = theta.detach().clone(), torch.tensor([1.0, 2.0], dtype=torch.float64)
    config = TrustRegion(max_kl=0.02, damping=0.5, iterations=10)
    moved, taken = trust_region_step(
        [theta], lambda: theta @ g, lambda: 0.5 * (theta - old).square().sum(), config
    )
    direction = g / 1.5
    expected = (2 * 0.02 / (direction @ (1.5 * direction))).sqrt() * direction
    assert taken
    torch.testing.assert_close(theta.detach() - old, expected)
    assert moved.item() == pytest.approx(0.5 * expected.square().sum().item())
    assert moved <= 0.02


def test_a_step_that_does_not_help_is_halved_and_at_last_not_taken() -> None:
    theta = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def narrow() -> torch.Tensor:  # rises for a short way only
        return theta.sum() - 200 * theta.square().sum()

    moved, taken = trust_region_step(
        [theta], narrow, lambda: 0.5 * theta.square().sum(), TrustRegion(0.02, 0.0)
    )
    assert taken
    assert 0 < theta.item() < 1 / 200
    theta.data.zero_()
    moved, taken = trust_region_step(
        [theta], lambda: theta.sum() - 1e9 * theta.square().sum(), lambda: 0.5 * theta.square().sum(),
        TrustRegion(0.02, 0.0),
    )  # fmt: skip
    assert not taken
    assert moved == 0
    assert theta.item() == 0


def test_the_losses_are_their_formulas() -> None:
    rng = np.random.default_rng(0)
    e, p = rng.normal(size=5), rng.normal(size=7)
    d_e, d_p = 1 / (1 + np.exp(-e)), 1 / (1 + np.exp(-p))
    expected = -np.log(d_e).mean() - np.log(1 - d_p).mean()
    assert discriminator_loss(torch.from_numpy(e), torch.from_numpy(p)).item() == pytest.approx(expected)
    np.testing.assert_allclose(imitation_reward(torch.from_numpy(p)).numpy(), -np.log(1 - d_p))
    log_prob, old, advantage = (torch.from_numpy(rng.normal(size=4)) for _ in range(3))
    found = surrogate(log_prob, old, advantage, torch.tensor([0.5, -1.0]), 0.1)
    expected = (np.exp((log_prob - old).numpy()) * advantage.numpy()).mean() - 0.05
    assert found.item() == pytest.approx(expected)


def test_an_episode_is_fixed_by_seed_and_number_and_its_actions_by_the_bounds() -> None:
    world = PointWorld()
    runs = [
        live(world).run(lambda s: torch.full((1, 2), 3.0), seed=1, episode=4, most_steps=5) for _ in range(2)
    ]
    assert torch.equal(runs[0].observations, runs[1].observations)
    assert runs[0].observations.shape == (6, 2)
    assert runs[0].actions.max() == 3.0
    np.testing.assert_allclose(runs[0].observations[1] - runs[0].observations[0], 0.4, rtol=1e-5)
    assert not runs[0].terminated


def test_gail_comes_to_within_0_15_of_the_experts_action_without_being_shown_the_states() -> None:
    torch.manual_seed(0)
    world = PointWorld()
    rows = expert_rows(10, world)
    config = GAILConfig(
        episodes=6, hidden=(32,), discriminator_lr=3e-3, discriminator_steps=5, entropy=0.0,
        trust_region=TrustRegion(max_kl=0.05, damping=0.05), initial_log_std=-1.0,
    )  # fmt: skip
    learner = config.build(2, 2, CPU)
    learner.connect(live(world))
    sampler = BatchSampler(rows, 72, seed=0)
    held_out = expert_rows(10, PointWorld()).observations
    before = (learner.policy(held_out) + GAIN * held_out).abs().mean().item()
    for _ in range(40):
        metrics = learner.update(sampler.sample())
        assert metrics["kl"] <= 0.05
    after = (learner.policy(held_out) + GAIN * held_out).abs().mean().item()
    assert len(set(world.starts)) == 10 + 240  # every episode began elsewhere
    assert after < 0.15
    assert after < 0.5 * before
    assert learner.policy(held_out[:1]).shape == (1, 2)


@pytest.fixture
def simulated(tiny, tmp_path: Path, rng):
    contract = tiny.contract + SIMULATED
    return tiny.write(tmp_path / "s.h5", [tiny.episode(rng) for _ in range(3)], contract=contract)


class TinyWorld(PointWorld):
    """Three numbers to see, actions of the tiny robot."""

    def __init__(self, name: str, *, horizon: int) -> None:
        assert (name, horizon) == ("point/home", 7)
        super().__init__(horizon=horizon, dim=3)

    def step(self, action: np.ndarray) -> Point:
        return super().step(np.append(action, 0.0))


def test_a_gail_run_resumes_bit_for_bit_and_exports(make_config, simulated) -> None:
    algo = GAILConfig(hidden=(8,), episodes=2, horizon=7, bc_steps=10)
    whole, stopped = (
        make_config(run, algo=algo, data={"files": (simulated,)}, batch_size=8)
        for run in ("whole", "stopped")
    )
    interrupt_and_resume(stopped, make_env=TinyWorld)
    train(whole, make_env=TinyWorld)
    assert_same_bits(final(whole.run), final(stopped.run))
    assert log(whole.run) == log(stopped.run)
    assert final(whole.run)["learner"]["episodes"] == 40
    assert export(ExportConfig(whole.run)).parity.max_abs_difference < 1e-5
    assert load_policy(whole.run).graph.act({"state": np.zeros(3)}).shape == (2,)


@pytest.mark.long
def test_the_front_door_gives_gail_the_simulation_that_the_contract_names(tiny, tmp_path: Path, rng) -> None:
    contract = (ROOT / "launch" / "contracts" / "sawyer_sim_state.yaml").read_text()
    frames = rng.normal(size=(13, 39))
    episode = tiny.episode(rng, 12) | {
        "obs/state": frames[:-1], "next_obs/state": frames[1:], "actions": rng.uniform(-1, 1, (12, 4))
    }  # fmt: skip
    path = tiny.write(tmp_path / "p.h5", [episode], contract=contract)
    command = [
        sys.executable, "armchair.py", "train", str(tmp_path / "run"), "--data.files", str(path),
        "--steps", "2", "--log-every", "1", "--batch-size", "8", "--no-tensorboard", "--num-threads", "1",
        "algo:gail", "--algo.episodes", "2", "--algo.horizon", "5", "--algo.hidden", "8",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [row["train/episode_steps"] for row in rows if "train/episode_steps" in row] == [5.0, 5.0]
    assert load_state(tmp_path / "run" / "checkpoints" / "final.safetensors")["learner"]["episodes"] == 4


def test_without_an_environment_or_with_cameras_gail_says_what_is_missing(
    make_config, prepared, pictured, simulated
) -> None:
    algo = GAILConfig(hidden=(8,), horizon=7)
    with pytest.raises(ConfigError, match=r"names no simulation.*algo:oril"):
        train(make_config("a", algo=algo), make_env=TinyWorld)
    with pytest.raises(ConfigError, match="none is connected"):
        train(make_config("b", algo=algo, data={"files": (simulated,)}))
    with pytest.raises(ConfigError, match=r"--data\.streams: GAIL runs its environment without pictures"):
        train(make_config("c", algo=algo, data={"files": (pictured,), "streams": ("state", "front")}))
