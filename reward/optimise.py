"""Fitting the preference ensemble: epochs over labelled pairs, early stop, warm starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from episodes.errors import ConfigError, LabelError
from policy.checkpoint import load_state, save_state
from reward.preference import RewardEnsemble, autocast, preference_loss, soften


@dataclass(frozen=True)
class OptimiseConfig:
    """How the ensemble is fitted."""

    learning_rate: float = 1e-3
    """Adam's rate, for all members."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW)."""
    batch_pairs: int = 64
    """Pairs per step and member."""
    epochs: int = 30
    """Most passes over the pairs."""
    early_stop: Literal["held_out_loss", "accuracy", "none"] = "held_out_loss"
    """held_out_loss: stop after `patience` epochs without a better Bradley-Terry loss on held-out pairs,
    and take the best epoch. accuracy: stop when the members' mean training accuracy exceeds `accuracy`,
    the paper's rule, which never fires when more than 1 − accuracy of the labels are wrong."""
    patience: int = 6
    """Epochs without a better held-out loss."""
    accuracy: float = 0.97
    """Training accuracy that ends the fit under early_stop=accuracy."""
    mistakes: float = 0.1
    """ε of the likelihood: how often the judge is taken to be wrong. 0 is the paper's loss."""
    margin: float = 0.0
    """Label smoothing: labels become label·(1 − 2·margin) + margin."""
    shift: int = 2
    """Augmentation: the pictures of a batch are moved by up to this many pixels, borders repeated. Without
    it the networks learn single frames by heart within a few epochs."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic of convolutions; auto takes bf16 where the processor or GPU has instructions for it."""

    def __post_init__(self) -> None:
        if not 0 <= self.mistakes < 0.5:
            raise ConfigError(f"mistakes {self.mistakes} is out of range: 0 <= mistakes < 0.5.")
        if not 0 <= self.margin < 0.5:
            raise ConfigError(f"margin {self.margin} is out of range: 0 <= margin < 0.5.")
        if self.batch_pairs < 1 or self.epochs < 1 or self.patience < 1:
            raise ConfigError("batch_pairs, epochs and patience are 1 or more.")


@dataclass(frozen=True, eq=False)
class LabelledPairs:
    """Pairs of frames with labels."""

    first: NDArray[np.int64]
    """(n,) rows of the frames."""
    second: NDArray[np.int64]
    label: NDArray[np.float32]
    """(n,) P(second preferred): 0, 1, or 0.5 for a tie."""
    held_out: NDArray[np.bool_]
    """(n,) never trained on."""

    def __len__(self) -> int:
        return len(self.label)

    def part(self, held_out: bool) -> LabelledPairs:
        """Only the held-out pairs, or only the others."""
        rows = self.held_out == held_out
        return LabelledPairs(self.first[rows], self.second[rows], self.label[rows], self.held_out[rows])


@dataclass(frozen=True)
class Epoch:
    """Figures of one pass, means over members."""

    train_loss: float
    train_accuracy: float
    held_out_loss: float
    held_out_accuracy: float


def resolve_precision(
    wanted: Literal["auto", "bf16", "fp32"], device: torch.device
) -> Literal["bf16", "fp32"]:
    """What `auto` means on this machine: without instructions for bf16 it is emulated, and slower than
    fp32."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    found = torch.cpu.get_capabilities()
    return "bf16" if found.get("avx512_bf16") or found.get("amx_bf16") else "fp32"


def fit(
    ensemble: RewardEnsemble,
    images: NDArray[np.uint8],
    pairs: LabelledPairs,
    config: OptimiseConfig,
    *,
    seed: int,
    checkpoint: Path | None = None,
    key: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> list[Epoch]:
    """Fit `ensemble` in place to `pairs` of cropped uint8 `images` (n, height, width, 3).

    Every member shuffles for itself. One step draws the next batch of each member, adds their losses and
    makes one Adam step over all members.

    Args:
        ensemble: as it stands, fresh or fitted before (warm start).
        images: cropped to the ensemble's box.
        pairs: rows of `images`, labels, and which are held out.
        config: how to fit.
        seed: of shuffling and augmentation.
        checkpoint: file that is written after every epoch and taken up when it carries the same `key`.
        key: what the checkpoint belongs to: settings and labels.
        progress: called with (epochs done, epochs at most).

    Returns:
        Figures of every epoch; with early_stop=held_out_loss the ensemble is that of the best one.

    Raises:
        LabelError: there is nothing to train on, or nothing held out to stop by, or the fit diverged.
    """
    train, check = pairs.part(held_out=False), pairs.part(held_out=True)
    if len(train) == 0:
        raise LabelError(
            "no labelled pair to fit: label pairs first, or look at how many the judge left unsure."
        )
    if config.early_stop == "held_out_loss" and len(check) == 0:
        raise LabelError(
            f"no held-out pair among {len(pairs)}: label more pairs, or stop without them "
            "(--optimise.early-stop none)."
        )
    device = ensemble.mean.device
    precision = resolve_precision(config.precision, device)
    run = _Run(
        ensemble,
        torch.optim.AdamW(
            ensemble.members.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        ),
        np.random.default_rng([seed, len(pairs)]),
    )
    if checkpoint is not None and checkpoint.is_file():
        run.take_up(checkpoint, key)
    while len(run.history) < config.epochs and not run.finished(config):
        loss, accuracy = _one_pass(ensemble, images, train, config, precision, run.optimiser, run.generator)
        held_loss, held_accuracy = evaluate(ensemble, images, check, config.mistakes, precision)
        run.add(Epoch(loss, accuracy, held_loss, held_accuracy))
        if checkpoint is not None:
            run.save(checkpoint, key)
        if progress is not None:
            progress(len(run.history), config.epochs)
    if config.early_stop == "held_out_loss":
        ensemble.members.load_state_dict(run.best_state)
    return run.history


class _Run:
    """What a fit knows between epochs."""

    def __init__(
        self, ensemble: RewardEnsemble, optimiser: torch.optim.Optimizer, generator: np.random.Generator
    ) -> None:
        self.ensemble, self.optimiser, self.generator = ensemble, optimiser, generator
        self.history: list[Epoch] = []
        self.best_state = self._weights()

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.ensemble.members.state_dict().items()}

    @property
    def best(self) -> int:
        """Number of the epoch with the lowest held-out loss, the first of equals."""
        return min(range(len(self.history)), key=lambda k: self.history[k].held_out_loss)

    def add(self, epoch: Epoch) -> None:
        """Take the figures of an epoch that was just made."""
        if not np.isfinite(epoch.train_loss):
            raise LabelError(
                f"epoch {len(self.history) + 1}: the loss is {epoch.train_loss}, the fit diverged: lower "
                "--optimise.learning-rate."
            )
        self.history.append(epoch)
        if self.best == len(self.history) - 1:
            self.best_state = self._weights()

    def finished(self, config: OptimiseConfig) -> bool:
        """Whether the early stop fires."""
        if not self.history or config.early_stop == "none":
            return False
        if config.early_stop == "accuracy":
            return self.history[-1].train_accuracy > config.accuracy
        return len(self.history) - 1 - self.best >= config.patience

    def save(self, path: Path, key: str) -> None:
        """Write everything that the next epoch depends on."""
        state = {
            "key": key,
            "members": self._weights(),
            "best": self.best_state,
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.bit_generator.state,
            "history": [astuple(epoch) for epoch in self.history],
        }
        save_state(path, state, len(self.history))

    def take_up(self, path: Path, key: str) -> None:
        """Go on from `path` when it belongs to the same fit."""
        state: dict[str, Any] = load_state(path)
        if state.get("key") != key:
            return
        self.ensemble.members.load_state_dict(state["members"])
        self.best_state = {name: value.to(self.ensemble.mean.device) for name, value in state["best"].items()}
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.bit_generator.state = state["generator"]
        self.history = [Epoch(*figures) for figures in state["history"]]


def _one_pass(
    ensemble: RewardEnsemble,
    images: NDArray[np.uint8],
    pairs: LabelledPairs,
    config: OptimiseConfig,
    precision: Literal["bf16", "fp32"],
    optimiser: torch.optim.Optimizer,
    generator: np.random.Generator,
) -> tuple[float, float]:
    orders = [generator.permutation(len(pairs)) for _ in ensemble.members]
    loss_sum = right = 0.0
    for start in range(0, len(pairs), config.batch_pairs):
        optimiser.zero_grad(set_to_none=True)
        for member, order in zip(ensemble.members, orders, strict=True):
            rows = order[start : start + config.batch_pairs]
            difference, label = _differences(
                ensemble, member, images, pairs, rows, config.shift, precision, generator
            )
            losses = preference_loss(difference, soften(label, config.margin), config.mistakes)
            losses.mean().backward()
            loss_sum += float(losses.detach().sum())
            right += _agreements(difference.detach(), label)
        optimiser.step()
    count = len(pairs) * len(ensemble.members)
    return loss_sum / count, right / count


def _differences(
    ensemble: RewardEnsemble,
    member: torch.nn.Module,
    images: NDArray[np.uint8],
    pairs: LabelledPairs,
    rows: NDArray[np.int64],
    shift: int,
    precision: Literal["bf16", "fp32"],
    generator: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    device = ensemble.mean.device
    both = np.concatenate([pairs.first[rows], pairs.second[rows]])
    frames = ensemble.prepare(torch.from_numpy(images[both]).to(device))
    if shift:
        down, right = generator.integers(-shift, shift + 1, size=2)
        frames = torch.nn.functional.pad(frames, (shift,) * 4, mode="replicate")[
            :,
            :,
            shift + down : shift + down + images.shape[1],
            shift + right : shift + right + images.shape[2],
        ]
    with autocast(device, precision):
        reward = member(frames)
    first, second = reward.chunk(2)
    return second - first, torch.from_numpy(pairs.label[rows]).to(device)


@torch.inference_mode()
def evaluate(
    ensemble: RewardEnsemble,
    images: NDArray[np.uint8],
    pairs: LabelledPairs,
    mistakes: float,
    precision: Literal["bf16", "fp32"],
    batch_pairs: int = 256,
) -> tuple[float, float]:
    """Bradley-Terry loss and accuracy on `pairs`, means over members; NaN without pairs."""
    if len(pairs) == 0:
        return float("nan"), float("nan")
    loss = right = 0.0
    nothing = np.random.default_rng(0)
    for start in range(0, len(pairs), batch_pairs):
        rows = np.arange(start, min(start + batch_pairs, len(pairs)))
        for member in ensemble.members:
            difference, label = _differences(ensemble, member, images, pairs, rows, 0, precision, nothing)
            loss += float(preference_loss(difference, label, mistakes).sum())
            right += _agreements(difference, label)
    count = len(pairs) * len(ensemble.members)
    return loss / count, right / count


def _agreements(difference: Tensor, label: Tensor) -> float:
    """Pairs ranked as labelled; a tie counts one half."""
    return float(torch.where(label == 0.5, 0.5, ((difference > 0) == (label > 0.5)).float()).sum())
