"""From recorded episodes through `prepare` to what is trained on: nothing is shifted, swapped or lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from episodes.contract import Source, parse_contract
from episodes.dataset import Dataset
from episodes.labels import write_labels
from episodes.prepare import prepare
from episodes.writer import ExtraStream
from policy.data import DataConfig, load_data

TRUTH = ExtraStream("truth", (2,), "float64", ("reward", "success"))
STEPS = 6


@pytest.fixture
def dataset(tmp_path: Path, tiny) -> Dataset:
    """Three simulated episodes e0, e1, e2; step k of episode n sees [n, k, 0] and does [k / 100, k / 10]."""
    contract = parse_contract(tiny.contract, "tiny.yaml")
    made = Dataset.create(tmp_path / "dataset", contract)
    for number in range(3):
        with made.new_writer(
            clock="sim", started_ns=0, episode_id=f"e{number}", extra_streams=(TRUTH,)
        ) as writer:
            for k in range(STEPS + 1):
                at = 1_000_000_000 + k * contract.period_ns
                writer.append("state", [number, k, 0.0], at, at)
                writer.append("wrench", [0.0, 0.0], at, at)
                writer.append("front", np.zeros((4, 5, 3), np.uint8), at, at)
                if k:
                    writer.append("truth", [number + k / 10, 0.0], at, at)
                if k < STEPS:
                    writer.append_command([k / 100, k / 10], at, at, at, Source.SCRIPT)
            writer.finish("failure", "sim", "horizon")
    return made


def test_recorded_steps_become_transitions_with_the_reward_of_the_frame_that_was_reached(
    dataset: Dataset, tmp_path: Path
) -> None:
    prepare(dataset.path, tmp_path / "p.h5", reward="truth", validation_fraction=0.34)
    data = load_data(DataConfig(files=(tmp_path / "p.h5",), scale_reward=False))
    assert data.valid is not None
    assert data.episodes == (2, 1)
    numbers = []
    for part in (data.train, data.valid):
        s, a, s_next = part.observations.numpy(), part.actions.numpy(), part.next_observations.numpy()
        numbers += np.unique(s[:, 0]).tolist()
        np.testing.assert_array_equal(s_next[:, 1], s[:, 1] + 1)
        np.testing.assert_allclose(a, np.stack([s[:, 1] / 100, s[:, 1] / 10], axis=1), rtol=1e-6)
        np.testing.assert_allclose(part.rewards.numpy(), s[:, 0] + s_next[:, 1] / 10, rtol=1e-6)
        np.testing.assert_array_equal(part.truncated.numpy(), s_next[:, 1] == STEPS)
        assert not part.terminated.any()
    assert sorted(numbers) == [0, 1, 2]


def test_a_labellers_rewards_reach_training_without_those_it_held_invalid(
    dataset: Dataset, tmp_path: Path
) -> None:
    for number in range(3):
        reward = np.linspace(0, 1, STEPS, dtype=np.float32) + number
        valid = np.ones(STEPS, np.bool_)
        valid[number] = False
        write_labels(dataset, "judge", f"e{number}", reward, valid, {})
    prepare(dataset.path, tmp_path / "p.h5", validation_fraction=0.0)
    data = load_data(DataConfig(files=(tmp_path / "p.h5",), reward="judge", scale_reward=False))
    assert data.unlabelled == 3
    assert len(data.train.rewards) == 3 * STEPS - 3
    s = data.train.observations.numpy()
    assert not ((s[:, 0] == s[:, 1]) & (s[:, 1] < 3)).any()
    np.testing.assert_allclose(
        data.train.rewards.numpy(), s[:, 0] + s[:, 1] / (STEPS - 1), rtol=1e-5, atol=1e-6
    )
