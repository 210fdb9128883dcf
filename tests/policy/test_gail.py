"""GAIL: its trust-region step against numpy and explicit Hessians, and a small world to learn in."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from episodes.errors import ConfigError
from policy.algorithms.gail import GAILConfig, _Round, discriminator_loss, imitation_reward, surrogate
from policy.live import Episode
from policy.metrics import read_metrics
from policy.train import train
from policy.training import BatchSampler
from policy.trust_region import (
    TrustRegion,
    conjugate_gradient,
    gaussian_kl,
    generalised_advantages,
    trust_region_step,
)
from tests.policy.states import assert_same_bits, final, log
from tests.policy.worlds import GAIN, PointWorld, TinyWorld, expert_rows, live

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


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


def test_gails_step_is_along_the_natural_gradient_of_its_explicit_fisher_matrix() -> None:
    """For N(tanh(W s + b), σ²) the Fisher matrix is E[JᵀJ/σ²] in W and b, J the mean's Jacobian, 2 in each
    log σ. A bound so small that curvature does not matter leaves the direction (F + cI)⁻¹ g."""
    torch.manual_seed(0)
    bound = TrustRegion(max_kl=1e-9, damping=0.3, iterations=40)
    learner = GAILConfig(hidden=(), trust_region=bound, entropy=0.2).build(2, 1, CPU)
    learner.policy.double()
    s, a = torch.randn(30, 2).double(), torch.randn(30, 1).double()
    scaled = torch.randn(30).double()
    x = np.concatenate((s.numpy(), np.ones((30, 1))), axis=1)
    parameters = dict(learner.policy.named_parameters())
    weights = np.append(parameters["mean.0.weight"].detach(), parameters["mean.0.bias"].detach())
    log_std = parameters["log_std"].item()
    mean = np.tanh(x @ weights)
    jacobian = (1 - mean**2)[:, None] * x
    error, variance = a[:, 0].numpy() - mean, np.exp(2 * log_std)
    fisher = np.zeros((4, 4))
    fisher[:3, :3] = jacobian.T @ jacobian / 30 / variance
    fisher[3, 3] = 2.0
    gradient = np.append(
        ((scaled.numpy() * error / variance)[:, None] * jacobian).mean(axis=0),
        (scaled.numpy() * (error**2 / variance - 1)).mean() + 0.2,
    )
    direction = np.linalg.solve(fisher + 0.3 * np.eye(4), gradient)
    metrics = learner._improve(_Round(s, a, s, scaled, scaled, {}))
    after = np.concatenate([
        parameters["mean.0.weight"].detach().ravel(), parameters["mean.0.bias"].detach(),
        parameters["log_std"].detach(),
    ])  # fmt: skip
    moved = after - np.append(weights, log_std)
    assert metrics["step_taken"] == 1
    length = np.sqrt(2e-9 / (direction @ (fisher + 0.3 * np.eye(4)) @ direction))
    np.testing.assert_allclose(moved, length * direction, rtol=1e-4, atol=1e-10)


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
    logits = torch.from_numpy(e), torch.from_numpy(p)
    assert discriminator_loss(*logits).item() == pytest.approx(expected)
    certainty = sum((d * np.log(d) + (1 - d) * np.log(1 - d)).mean() for d in (d_e, d_p))
    assert discriminator_loss(*logits, 0.3).item() == pytest.approx(expected + 0.3 * certainty)
    np.testing.assert_allclose(imitation_reward(logits[1]).numpy(), -np.log(1 - d_p))
    np.testing.assert_allclose(imitation_reward(logits[1], "negative").numpy(), np.log(d_p))
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


@pytest.mark.parametrize("terminated", [False, True])
def test_nothing_comes_behind_the_last_step_of_an_episode(terminated) -> None:
    """D says ½ of everything, so every reward is log 2. V says c of every state: with λ = 1 what it is told
    is the discounted sum up to the episode's end, in units of Σ γᵗ over the whole horizon."""
    learner = GAILConfig(hidden=(4,), horizon=5, discount=0.8, trace=1.0).build(2, 2, CPU)
    for network, bias in ((learner.discriminator, 0.0), (learner.value.network, 0.3)):
        network[-1].weight.data.zero_()
        network[-1].bias.data.fill_(bias)
    steps = 3 if terminated else 5
    episode = Episode(torch.randn(steps + 1, 2), torch.randn(steps, 2), terminated, 0.0, False)
    found = learner._judge([episode])
    unit = sum(0.8**t for t in range(5))
    expected = [np.log(2) * sum(0.8**k for k in range(steps - t)) / unit for t in range(steps)]
    np.testing.assert_allclose(found.returns.numpy(), expected, rtol=1e-5)
    np.testing.assert_allclose(found.timed[:, -1].numpy(), np.arange(steps) / 5)
    advantage = np.array(expected) - 0.3
    scaled = (advantage - advantage.mean()) / advantage.std()
    np.testing.assert_allclose(found.advantages.numpy(), scaled, rtol=1e-4)


def cost(act: Callable[[np.ndarray], np.ndarray]) -> float:
    """Mean sum of |s|² over 20 episodes from starts that nobody saw."""
    world, total = PointWorld(), 0.0
    for episode in range(50, 70):
        step = world.reset(seed=100, episode=episode)
        while not step.truncated:
            step = world.step(np.clip(act(step.position), -1, 1))
            total -= step.reward / 20
    return total


@pytest.mark.parametrize("seed", [3, *(pytest.param(n, marks=pytest.mark.long) for n in (0, 1, 2))])
def test_gail_acts_like_a_linear_quadratic_expert_to_within_0_1_in_a_world_it_only_tries(seed) -> None:
    """Actions of ±0.8 at first, of ±0.1 on average: doing nothing is 0.14 off, and costs 14 times as much as
    the expert. GAIL saves nine tenths of that at the median; four fifths are asked for."""
    torch.manual_seed(seed)
    world = PointWorld()
    rows = expert_rows(10, world)
    config = GAILConfig(
        episodes=6, horizon=12, hidden=(32,), discriminator_lr=3e-3,
        trust_region=TrustRegion(max_kl=0.05, damping=0.05),
    )  # fmt: skip
    learner = config.build(2, 2, CPU)
    learner.connect(live(world))
    sampler = BatchSampler(rows, 72, seed=seed)
    for _ in range(55):
        metrics = learner.update(sampler.sample())
        assert metrics["kl"] <= 0.05
    held_out = expert_rows(10, PointWorld()).observations
    error = (learner.policy(held_out) + GAIN * held_out).abs().mean().item()
    assert error < 0.1

    def act(position: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return learner.policy(torch.tensor(position, dtype=torch.float32)[None])[0].double().numpy()

    expert, idle = cost(lambda s: -GAIN * s), cost(np.zeros_like)
    assert cost(act) < expert + 0.2 * (idle - expert)
    assert len(set(world.starts)) == 10 + 330  # every episode began elsewhere
    assert metrics["log_std"].mean() < -1.5
    assert metrics["d_policy"].mean() == pytest.approx(0.5, abs=0.2)


def test_a_policy_that_says_nan_stops_the_run_before_the_simulation_gets_it() -> None:
    learner = GAILConfig(hidden=(4,)).build(2, 2, CPU)
    learner.connect(live(PointWorld()))
    learner.policy.mean[0].weight.data.fill_(float("nan"))
    with pytest.raises(ConfigError, match=r"the policy's action is nan.*the training diverged"):
        learner.update(expert_rows(1, PointWorld()))


def command(path: Path, run: Path, rounds: int) -> list[str]:
    return [
        sys.executable, "armchair.py", "train", str(run), "--data.files", str(path), "--steps", str(rounds),
        "--log-every", "1", "--checkpoint-every", "2", "--batch-size", "8", "--no-tensorboard",
        "--num-threads", "1", "algo:gail", "--algo.episodes", "2", "--algo.horizon", "5",
        "--algo.hidden", "8",
    ]  # fmt: skip


@pytest.mark.long
def test_the_front_door_gives_gail_the_simulation_that_the_contract_names_and_a_killed_run_goes_on(
    tiny, tmp_path: Path, rng
) -> None:
    contract = (ROOT / "launch" / "contracts" / "sawyer_sim_state.yaml").read_text()
    frames = rng.normal(size=(13, 39))
    episode = tiny.episode(rng, 12) | {
        "obs/state": frames[:-1], "next_obs/state": frames[1:], "actions": rng.uniform(-1, 1, (12, 4))
    }  # fmt: skip
    path = tiny.write(tmp_path / "p.h5", [episode], contract=contract)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = subprocess.Popen(command(path, killed, 16), cwd=ROOT, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 280
        while not list((killed / "checkpoints").glob("step-*.safetensors")):
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.001)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    for run in (killed, whole):
        done = subprocess.run(
            command(path, run, 16), cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
        )
        assert done.returncode == 0, done.stderr
    assert_same_bits(final(whole), final(killed))
    assert log(whole) == log(killed)
    assert final(whole)["learner"]["episodes"] == 32
    rows = read_metrics(whole / "metrics.jsonl")
    assert {row["train/episode_steps"] for row in rows if "train/episode_steps" in row} == {5.0}


def test_without_a_simulation_or_with_cameras_gail_says_what_is_missing(
    make_config, prepared, pictured, tiny, tmp_path: Path, rng
) -> None:
    algo = GAILConfig(hidden=(8,), horizon=7)
    real = "".join(line for line in tiny.contract.splitlines(True) if not line.startswith("simulation"))
    nowhere = tiny.write(tmp_path / "real.h5", [tiny.episode(rng)], contract=real)
    with pytest.raises(ConfigError, match=r"names no simulation.*algo:oril"):
        train(make_config("a", algo=algo, data={"files": (nowhere,)}), make_env=TinyWorld)
    with pytest.raises(ConfigError, match="none is connected"):
        train(make_config("b", algo=algo))
    with pytest.raises(ConfigError, match=r"--data\.streams: GAIL runs its environment without pictures"):
        train(make_config("c", algo=algo, data={"files": (pictured,), "streams": ("state", "front")}))


@pytest.mark.parametrize("key", [
    {"episodes": 0}, {"horizon": 0}, {"discount": 1.5}, {"discriminator_lr": 0.0}, {"bc_steps": -1},
    {"discriminator_entropy": -1.0}, {"initial_log_std": 9.0},
])  # fmt: skip
def test_settings_that_cannot_work_are_refused_by_name(key) -> None:
    with pytest.raises(ConfigError, match=f"--algo.{next(iter(key)).replace('_', '-')}"):
        GAILConfig(**key)


@pytest.mark.parametrize(
    "key", [{"max_kl": 0.0}, {"damping": -1.0}, {"iterations": 0}, {"halvings": -1}, {"accept": 1.0}]
)
def test_a_trust_region_that_cannot_work_is_refused_by_name(key) -> None:
    with pytest.raises(ConfigError, match=f"--algo.trust-region.{next(iter(key)).replace('_', '-')}"):
        TrustRegion(**key)


def test_the_environment_that_gail_tries_its_policy_in_is_closed_with_the_run(make_config) -> None:
    made: list[TinyWorld] = []

    def make_env(name: str, *, horizon: int) -> TinyWorld:
        made.append(TinyWorld(name, horizon=horizon))
        return made[-1]

    algo = GAILConfig(hidden=(8, 8), episodes=2, horizon=7, bc_steps=25, value_steps=3)
    train(make_config("a", algo=algo), make_env=make_env)
    assert [world.closed for world in made] == [True]
