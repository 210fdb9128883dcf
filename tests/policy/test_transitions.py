"""n-step returns, action chunks, prior data and weights: against loops written out."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from episodes.errors import ConfigError, DatasetError
from policy.algorithms.bc import BCConfig, chunk_loss
from policy.algorithms.iql import IQLConfig
from policy.data import DataConfig, load_data
from policy.training import BatchSampler
from policy.transitions import Transitions, action_chunks, n_step, segment_ends

CPU = torch.device("cpu")
episodes = st.integers(1, 12).flatmap(
    lambda size: st.tuples(
        hnp.arrays(np.float64, size, elements=st.floats(-3, 3)),
        hnp.arrays(np.bool_, size),
        hnp.arrays(np.bool_, size),
        hnp.arrays(np.int64, size, elements=st.integers(1, 2)),
    )
)


def ends_of(ticks, terminated, truncated) -> list[int]:
    """The last row that each row runs on to."""
    found = []
    for row in range(len(ticks)):
        last = row
        while not (terminated[last] or truncated[last]) and last + 1 < len(ticks):
            if ticks[last + 1] != ticks[last] + 1:
                break
            last += 1
        found.append(last)
    return found


@given(episodes, st.integers(1, 5), st.floats(0.0, 1.0))
def test_n_step_returns_are_the_discounted_sum_up_to_an_end_or_a_gap(episode, n, gamma) -> None:
    rewards, terminated, truncated, steps = episode
    ticks = np.cumsum(steps)
    ends = segment_ends(ticks, terminated, truncated)
    assert ends.tolist() == ends_of(ticks, terminated, truncated)
    returns, last = n_step(rewards, ends, n, gamma)
    for row in range(len(rewards)):
        expected_last = min(row + n - 1, ends[row])
        assert last[row] == expected_last
        expected = sum(gamma**k * rewards[row + k] for k in range(expected_last - row + 1))
        assert returns[row] == pytest.approx(expected, abs=1e-9)


@given(episodes, st.integers(1, 5))
def test_chunks_are_the_next_actions_and_repeat_the_last_one_behind_an_end(episode, horizon) -> None:
    rewards, terminated, truncated, steps = episode
    ends = segment_ends(np.cumsum(steps), terminated, truncated)
    actions = rewards[:, None] + np.array([0.0, 10.0])
    chunks, recorded = action_chunks(actions, ends, horizon)
    for row in range(len(actions)):
        for h in range(horizon):
            np.testing.assert_array_equal(chunks[row, h], actions[min(row + h, ends[row])])
            assert recorded[row, h] == (row + h <= ends[row])


def test_a_file_becomes_n_step_transitions_whose_next_state_and_end_are_those_of_the_last_step(
    tiny, tmp_path: Path, rng
) -> None:
    one, other = tiny.episode(rng, 5), tiny.episode(rng, 3)
    other |= {"terminated": np.array([False, False, True]), "truncated": np.zeros(3, np.bool_)}
    path = tiny.write(tmp_path / "a.h5", [one, other])
    train = load_data(DataConfig(files=(path,), n_step=3, scale_reward=False), discount=0.5).train
    assert train.steps.tolist() == [3, 3, 3, 2, 1, 3, 2, 1]
    r = one["labels/truth"]
    assert train.rewards[0].item() == pytest.approx(r[0] + 0.5 * r[1] + 0.25 * r[2], rel=1e-6)
    np.testing.assert_allclose(train.next_observations[0].numpy(), one["next_obs/state"][2], rtol=1e-6)
    np.testing.assert_allclose(train.next_observations[3].numpy(), one["next_obs/state"][4], rtol=1e-6)
    assert train.terminated.tolist() == [0] * 5 + [1, 1, 1]
    assert train.truncated.tolist() == [0, 0, 1, 1, 1, 0, 0, 0]
    torch.testing.assert_close(train.discounts(0.5), 0.5**train.steps)


def test_a_row_without_a_label_ends_what_is_added_up(tiny, tmp_path: Path, rng) -> None:
    episode = tiny.episode(rng, 5)
    episode |= {
        "labels/judge": np.arange(5.0),
        "label_valid/judge": np.array([True, True, False, True, True]),
    }
    path = tiny.write(tmp_path / "a.h5", [episode])
    train = load_data(
        DataConfig(files=(path,), reward="judge", n_step=3, scale_reward=False), discount=1.0
    ).train
    assert train.rewards.tolist() == [1.0, 1.0, 7.0, 4.0]
    assert train.steps.tolist() == [2, 1, 2, 1]


def test_n_steps_and_one_step_agree_on_the_value_of_a_chain() -> None:
    """Reward 1 for ever, cut off by the recording: 1/(1 − γ) either way."""
    torch.manual_seed(0)
    one = torch.ones(8, 1)
    zeros = torch.zeros(8)
    for n in (1, 3):
        steps = torch.full((8,), float(n))
        returns = sum(0.8**k for k in range(n)) * one[:, 0]
        rows = Transitions(one, zeros[:, None], returns, one, zeros, one[:, 0], steps)
        learner = IQLConfig(discount=0.8, tau=0.1, lr=1e-2, hidden=(8,)).build(1, 1, CPU)
        for _ in range(400):
            learner.update(rows)
        assert learner.v(torch.ones(1, 1)).item() == pytest.approx(5.0, abs=0.15)


def test_prior_files_are_learned_from_with_the_lowest_reward(tiny, tmp_path: Path, rng) -> None:
    task, prior = ([tiny.episode(rng, n)] for n in (4, 6))
    task[0]["labels/truth"] = np.array([-2.0, 0.0, 2.0, 1.0])
    prior[0]["labels/truth"] = None
    files = [tiny.write(tmp_path / f"{n}.h5", e) for n, e in (("task", task), ("prior", prior))]
    config = DataConfig(files=files[:1], prior=files[1:])
    data = load_data(config)
    assert data.train.rewards.tolist() == [0.0, 0.5, 1.0, 0.75] + [0.0] * 6
    assert data.reward_range == (-2.0, 2.0)
    assert data.episodes == (2, 0)
    for reward, scaled, expected in (
        ("truth", False, -2.0), ("random", False, 0.0), ("constant", True, 0.0), ("truth", True, 0.0)
    ):  # fmt: skip
        rows = load_data(dataclasses.replace(config, reward=reward, scale_reward=scaled)).train.rewards
        assert rows[4:].tolist() == [expected] * 6
    plain = load_data(dataclasses.replace(config, scale_reward=False))
    assert plain.train.rewards[:4].tolist() == [-2.0, 0.0, 2.0, 1.0]
    with pytest.raises(ConfigError, match=r"--data\.prior .*none twice"):
        load_data(DataConfig(files=files[:1], prior=files[:1]))


def test_files_are_drawn_by_weight_whatever_their_length(tiny, tmp_path: Path, rng) -> None:
    files = tuple(tiny.write(tmp_path / f"{n}.h5", [tiny.episode(rng, n)]) for n in (4, 40))
    data = load_data(DataConfig(files=files[:1], prior=files[1:], weights=(3.0, 1.0)))
    rows = data.train._replace(rewards=(torch.arange(44) < 4).float())
    drawn = BatchSampler(rows, 20_000, 0, weights=data.weights).sample().rewards
    assert drawn.mean().item() == pytest.approx(0.75, abs=0.02)
    with pytest.raises(ConfigError, match=r"--data\.weights \[1\.0\]: there are 2 files"):
        load_data(DataConfig(files=files, weights=(1.0,)))
    with pytest.raises(ConfigError, match=r"--data\.weights"):
        DataConfig(files=files, weights=(0.0, 0.0))


@given(hnp.arrays(np.float64, st.integers(1, 9), elements=st.sampled_from([0.0, 0.5, 2.0])))
def test_rows_of_weight_zero_are_never_drawn(weights) -> None:
    column = torch.arange(len(weights)).float()
    rows = Transitions(column[:, None], column[:, None], *[column] * 4)
    if not weights.any():
        with pytest.raises(DatasetError, match="nothing to draw"):
            BatchSampler(rows, 4, 0, weights=torch.from_numpy(weights))
        return
    drawn = BatchSampler(rows, 200, 0, weights=torch.from_numpy(weights)).sample().rewards.long()
    assert (weights[drawn.numpy()] > 0).all()


def test_the_chunk_loss_is_the_mean_over_recorded_actions() -> None:
    entries = torch.arange(12.0).view(2, 3, 2)
    valid = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    assert chunk_loss(entries, valid).item() == pytest.approx(((1 + 5 + 9) / 3 + 13) / 2)


@pytest.mark.parametrize("policy", ["gaussian", "deterministic"])
def test_a_chunk_of_one_repeated_action_trains_like_plain_cloning_of_it(policy) -> None:
    torch.manual_seed(0)
    s, a = torch.randn(16, 3), torch.rand(16, 2) - 0.5
    zeros = torch.zeros(16)
    batch = Transitions(s, a, zeros, s, zeros, zeros, None, a[:, None].expand(-1, 2, -1), torch.ones(16, 2))
    learner = BCConfig(hidden=(32,), chunk=2, lr=1e-2, policy=policy).build(3, 2, CPU)
    for _ in range(300):
        learner.update(batch)
    action = learner.policy(s)
    assert action.shape == (16, 4)
    assert (action.view(16, 2, 2) - a[:, None]).abs().mean() < 0.1
    with pytest.raises(DatasetError, match="no chunks of 2 actions"):
        learner.update(batch._replace(chunks=None))


def test_a_bundle_of_chunks_says_their_length_and_how_much_is_executed(make_config, tiny) -> None:
    from policy.export import ExportConfig, export
    from policy.run import load_policy
    from policy.runtime.infer import Policy
    from policy.train import train

    config = make_config(algo=BCConfig(hidden=(8,), chunk=3, policy="tanh_gaussian"))
    train(config)
    bundle = export(ExportConfig(config.run))
    assert (bundle.manifest.chunk_length, bundle.manifest.chunk_execute) == (3, 2)
    chunk = Policy(bundle).infer({"state": np.zeros(3)})
    assert chunk.shape == (3, 2)
    assert ((chunk >= tiny.lower) & (chunk <= tiny.upper)).all()
    first = load_policy(config.run).graph.act({"state": np.zeros(3)})
    np.testing.assert_allclose(chunk[0], first, atol=1e-6)
