"""ORIL: the positive-unlabelled loss, its reward, and what it learns from a few expert episodes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from episodes.errors import DatasetError
from policy.algorithms.iql import IQLConfig
from policy.algorithms.oril import ORILConfig, first_half, imitation_reward, positive_unlabelled_loss
from policy.data import DataConfig, load_data
from policy.export import ExportConfig, export
from policy.train import train
from policy.training import BatchSampler
from policy.transitions import Transitions

CPU = torch.device("cpu")


@pytest.mark.parametrize("non_negative", [True, False])
def test_the_discriminators_loss_is_its_formula(non_negative) -> None:
    rng = np.random.default_rng(0)
    logits, expert = rng.normal(size=9) * 3, (np.arange(9) % 3 == 0).astype(float)
    d = 1 / (1 + np.exp(-logits))
    e, u = expert == 1, expert == 0
    negative = -np.log(1 - d[u]).mean() + 0.3 * np.log(1 - d[e]).mean()
    expected = -0.3 * np.log(d[e]).mean() + (max(negative, 0.0) if non_negative else negative)
    tensors = [torch.from_numpy(x) for x in (logits, expert, 1 - expert)]
    found = positive_unlabelled_loss(*tensors, 0.3, non_negative=non_negative)
    assert found.item() == pytest.approx(expected, rel=1e-9)


def test_a_negative_estimate_is_cut_only_where_that_is_asked_for() -> None:
    logits = torch.tensor([6.0, -6.0])
    expert = torch.tensor([1.0, 0.0])
    cut, free = (
        positive_unlabelled_loss(logits, expert, 1 - expert, 0.5, non_negative=x).item()
        for x in (True, False)
    )
    assert cut > 0 > free


def test_the_reward_is_minus_log_one_minus_d_within_its_cap() -> None:
    logits = torch.tensor([-20.0, -1.0, 0.0, 2.0, 20.0]).double()
    d = 1 / (1 + np.exp(-np.clip(logits.numpy(), -5, 5)))
    expected = -np.log(1 - d) / -np.log(1 - 1 / (1 + np.exp(-5.0)))
    np.testing.assert_allclose(imitation_reward(logits, 5.0).numpy(), expected, rtol=1e-6)


def test_a_batch_holds_expert_rows_behind_rows_of_all_the_data() -> None:
    s = torch.arange(100).float()[:, None]
    zeros = torch.zeros(100)
    rows = Transitions(s, s, zeros, s, zeros, zeros)
    batch = BatchSampler(rows, 50, 0, beside=torch.tensor([3, 7])).sample()
    assert len(batch.actions) == 100
    assert set(batch.actions[50:, 0].tolist()) == {3.0, 7.0}
    assert len(set(batch.actions[:50, 0].tolist())) > 20
    assert len(first_half(batch).actions) == 50


def test_the_expert_is_named_by_outcome_or_by_mask(tiny, tmp_path, rng) -> None:
    import h5py

    path = tiny.write(tmp_path / "a.h5", [tiny.episode(rng, 3) for _ in range(3)], masks={"best": [1]})
    with h5py.File(path, "a") as file:
        for number, outcome in enumerate(("failure", "unknown", "success")):
            file[f"data/demo_{number}"].attrs["outcome"] = outcome

    def experts(name: str) -> list[float]:
        data = load_data(DataConfig(files=(path,), reward="zero", expert=name), experts=True)
        return data.train.expert.tolist()

    assert experts("success") == [0] * 6 + [1] * 3
    assert experts("best") == [0] * 3 + [1] * 3 + [0] * 3
    with pytest.raises(DatasetError, match=r"no mask/good, so it is unknown.*--data\.expert"):
        experts("good")
    tiny.write(tmp_path / "b.h5", [tiny.episode(rng, 3)], masks={"train": [0], "best": []})
    with pytest.raises(DatasetError, match=r"no episode to train on is an expert's \(--data\.expert best\)"):
        load_data(DataConfig(files=(tmp_path / "b.h5",), reward="zero", expert="best"), experts=True)


def test_a_run_whose_experts_are_all_in_prior_data_exports(make_config, tiny, tmp_path, rng) -> None:
    task = tiny.write(tmp_path / "task.h5", [tiny.episode(rng) for _ in range(3)], masks={"best": []})
    experts = tiny.write(tmp_path / "experts.h5", [tiny.episode(rng)], masks={"best": [0]})
    config = make_config(
        algo=ORILConfig(discriminator_hidden=(8,), discriminator_steps=2, iql=IQLConfig(hidden=(8,))),
        data={"files": (task,), "prior": (experts,), "expert": "best"}, loop={"steps": 4},
    )  # fmt: skip
    train(config)
    parity = export(ExportConfig(config.run)).parity
    assert parity.samples == 36
    assert parity.max_abs_difference < 1e-5


def test_oril_finds_the_experts_action_among_all_others_to_within_0_1() -> None:
    """Expert rows act at 0.5; they are a quarter of the data, the rest act at −0.6 and are as far from it as
    can be told: behaviour cloning of everything would give −0.33."""
    torch.manual_seed(0)
    actions = torch.tensor([0.5, -0.6, -0.6, -0.6]).repeat(32)[:, None]
    zeros, state = torch.zeros(128), torch.zeros(128, 2)
    rows = Transitions(state, actions, zeros, state, torch.ones(128), zeros)
    config = ORILConfig(
        prior=0.25, discriminator_steps=200, discriminator_lr=3e-3, discriminator_hidden=(16,),
        discriminator_dropout=0.0, iql=IQLConfig(lr=5e-3, hidden=(16,), policy_dropout=0.0),
    )  # fmt: skip
    learner = config.build(2, 1, CPU)
    sampler = BatchSampler(rows, 32, 0, beside=(actions[:, 0] > 0).nonzero().squeeze(-1))
    for _ in range(700):
        metrics = learner.update(sampler.sample())
    assert metrics["reward"].max() > 2 * metrics["reward"].min()
    assert learner.policy(state[:1]).item() == pytest.approx(0.5, abs=0.1)
