"""A whole fit against one written out in NumPy: Bradley-Terry ensemble, AdamW, shuffles, early stop.

Nothing of torch or of armchair's losses is used in the reference; it works in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.special import expit, xlogy

from reward.networks import NetworkConfig, StateActionConfig
from reward.optimise import OptimiseConfig, fit
from reward.pairs import LabelledPairs
from reward.preference import RewardEnsemble, predict

Layer = tuple[np.ndarray, np.ndarray]
MEMBERS, SEED = 3, 5


@dataclass
class Reference:
    """A perceptron with LeakyReLU (slope 0.01) and AdamW (Loshchilov and Hutter 2019, algorithm 2)."""

    layers: list[Layer]

    def __post_init__(self) -> None:
        self.first = [[np.zeros_like(part) for part in layer] for layer in self.layers]
        self.second = [[np.zeros_like(part) for part in layer] for layer in self.layers]
        self.step = 0

    def forward(self, x: np.ndarray) -> list[np.ndarray]:
        """Activations of every layer, the reward (n, 1) last."""
        found = [x]
        for number, (weight, bias) in enumerate(self.layers):
            x = x @ weight.T + bias
            if number < len(self.layers) - 1:
                x = np.where(x > 0, x, 0.01 * x)
            found.append(x)
        return found

    def loss(
        self, x: np.ndarray, pairs: LabelledPairs, rows: np.ndarray, mistakes: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cross entropy of each pair under P = (1 − ε)·σ(r₂ − r₁) + ε·σ(r₁ − r₂), whether the rewards agree
        with the label (a tie: one half), and the loss' derivative by r₂ − r₁."""
        both = np.concatenate([pairs.first[rows], pairs.second[rows]])
        one, two = np.split(self.forward(x[both])[-1][:, 0], 2)
        label = pairs.label[rows].astype(np.float64)
        likes = expit(two - one)
        chance = (1 - mistakes) * likes + mistakes * (1 - likes)
        loss = -(xlogy(label, chance) + xlogy(1 - label, 1 - chance))
        slope = (1 - 2 * mistakes) * likes * (1 - likes)
        by_difference = slope * ((1 - label) / (1 - chance) - label / chance)
        agrees = np.where(label == 0.5, 0.5, (two > one) == (label > 0.5))
        return loss, agrees, by_difference

    def improve(self, x: np.ndarray, pairs: LabelledPairs, rows: np.ndarray, config: OptimiseConfig) -> None:
        """One step of AdamW on the mean loss over `rows`."""
        both = np.concatenate([pairs.first[rows], pairs.second[rows]])
        found = self.forward(x[both])
        slope = self.loss(x, pairs, rows, config.mistakes)[2] / len(rows)
        back = np.concatenate([-slope, slope])[:, None]
        self.step += 1
        for number in reversed(range(len(self.layers))):
            weight, bias = self.layers[number]
            gradients = [back.T @ found[number], back.sum(axis=0)]
            back = (back @ weight) * np.where(found[number] > 0, 1.0, 0.01)
            new = []
            for k, (part, gradient) in enumerate(zip((weight, bias), gradients, strict=True)):
                self.first[number][k] = 0.9 * self.first[number][k] + 0.1 * gradient
                self.second[number][k] = 0.999 * self.second[number][k] + 0.001 * gradient**2
                mean = self.first[number][k] / (1 - 0.9**self.step)
                square = self.second[number][k] / (1 - 0.999**self.step)
                kept = part * (1 - config.learning_rate * config.weight_decay)
                new.append(kept - config.learning_rate * mean / (np.sqrt(square) + 1e-8))
            self.layers[number] = (new[0], new[1])


def reference_fit(
    members: list[Reference], x: np.ndarray, pairs: LabelledPairs, config: OptimiseConfig
) -> tuple[np.ndarray, list[list[Layer]]]:
    """(epochs, 4) train loss and accuracy, held-out loss and accuracy; the weights that are kept."""
    train, check = pairs.part(held_out=False), pairs.part(held_out=True)
    chance = [np.random.default_rng([SEED, len(pairs), k]) for k in range(len(members))]
    history: list[np.ndarray] = []
    kept: list[list[Layer]] = []
    while len(history) < config.epochs:
        figures = []
        for member, rng in zip(members, chance, strict=True):
            order = rng.permutation(len(train))
            losses, agreed = [], []
            for start in range(0, len(train), config.batch_pairs):
                rows = order[start : start + config.batch_pairs]
                loss, agrees, _ = member.loss(x, train, rows, config.mistakes)
                losses.append(loss)
                agreed.append(agrees)
                member.improve(x, train, rows, config)
            loss, agrees, _ = member.loss(x, check, np.arange(len(check)), config.mistakes)
            figures.append(
                [np.concatenate(losses).mean(), np.concatenate(agreed).mean(), loss.mean(), agrees.mean()]
            )
        history.append(np.mean(figures, axis=0))
        held_out = [row[2] for row in history]
        best = int(np.argmin(held_out))
        if best == len(history) - 1:
            kept = [list(member.layers) for member in members]
        if config.early_stop == "held_out_loss" and len(history) - 1 - best >= config.patience:
            break
        if config.early_stop == "accuracy" and history[-1][1] > config.accuracy:
            break
    return np.array(history), kept if config.early_stop == "held_out_loss" else [m.layers for m in members]


def a_problem(mistakes: float) -> tuple[np.ndarray, LabelledPairs]:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((40, 5)).astype(np.float32)
    value = x[:, 0] - x[:, 1] ** 2
    first, second = rng.integers(40, size=(2, 70))
    label = (value[second] > value[first]).astype(np.float32)
    wrong = rng.random(70) < mistakes
    label = np.where(wrong, 1 - label, label).astype(np.float32)
    label[::9] = 0.5
    return x, LabelledPairs(first, second, label, rng.random(70) < 0.3)


@pytest.mark.parametrize(
    ("config", "mistakes", "ends"),
    [
        (OptimiseConfig(0.02, batch_pairs=16, epochs=30, patience=3, weight_decay=0.1), 0.4, "early"),
        (OptimiseConfig(0.02, batch_pairs=16, epochs=3, early_stop="none", mistakes=0.0), 0.1, "at the end"),
        (
            OptimiseConfig(0.05, batch_pairs=64, epochs=60, early_stop="accuracy", accuracy=0.85),
            0.0,
            "early",
        ),
    ],
    ids=["held-out loss", "none, the paper's likelihood", "accuracy, the paper's rule"],
)
def test_ensemble_likelihood_adam_and_early_stop_are_those_written_out_in_numpy(
    config: OptimiseConfig, mistakes: float, ends: str
) -> None:
    x, pairs = a_problem(mistakes)
    torch.manual_seed(0)
    network = NetworkConfig("state-action", members=MEMBERS, state_action=StateActionConfig((16, 8)))
    ensemble = RewardEnsemble(network, None, 5)
    members = []
    for member in ensemble.members:
        layers = [part for part in member.modules() if isinstance(part, torch.nn.Linear)]
        arrays = [(p.weight.detach().double().numpy(), p.bias.detach().double().numpy()) for p in layers]
        members.append(Reference([(weight.copy(), bias.copy()) for weight, bias in arrays]))
    found = fit(ensemble, x, pairs, config, seed=SEED)
    history, kept = reference_fit(members, x.astype(np.float64), pairs, config)
    assert len(found) == len(history)
    assert (len(history) < config.epochs) == (ends == "early"), "the case shows what it is meant to"
    np.testing.assert_allclose(
        [[e.train_loss, e.train_accuracy, e.held_out_loss, e.held_out_accuracy] for e in found],
        history,
        rtol=2e-3,
        atol=2e-4,
    )
    rewards = np.stack([Reference(layers).forward(x.astype(np.float64))[-1][:, 0] for layers in kept])
    # A likelihood of differences leaves each member's constant free: its gradient is rounding, which Adam
    # scales up.
    np.testing.assert_allclose(centred(predict(ensemble, x)), centred(rewards), rtol=1e-2, atol=1e-2)


def centred(rewards: np.ndarray) -> np.ndarray:
    return rewards - rewards.mean(axis=1, keepdims=True)
