"""Fitting the preference ensemble: epochs over labelled pairs, early stop, warm starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from episodes.errors import ConfigError, LabelError
from policy.checkpoint import load_state, save_state
from reward.pairs import LabelledPairs
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
    patience: int = 10
    """Epochs without a better held-out loss. The first round holds out about a hundred pairs, whose loss
    moves by chance more than it falls in a few epochs."""
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

    Every member shuffles for itself and makes its own Adam steps, which is the same as one Adam over the
    sum of the members' losses. The early stop looks at the mean over members.

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
    run = _Run(
        ensemble, config, [np.random.default_rng([seed, len(pairs), k]) for k in range(len(ensemble.members))]
    )
    if checkpoint is not None and checkpoint.is_file():
        run.take_up(checkpoint, key)
    with _workers(ensemble) as pool:
        while len(run.history) < config.epochs and not run.finished():
            passes = [pool.submit(member.one_pass, images, train, check) for member in run.members]
            run.add([done.result() for done in passes])
            if checkpoint is not None:
                run.save(checkpoint, key)
            if progress is not None:
                progress(len(run.history), config.epochs)
    if config.early_stop == "held_out_loss":
        ensemble.members.load_state_dict(run.best_state)
    return run.history


@contextmanager
def _workers(ensemble: RewardEnsemble) -> Iterator[ThreadPoolExecutor]:
    """Threads that fit one member each, with one CPU thread inside.

    Members need nothing of each other within an epoch, so threads side by side wait for each other once an
    epoch.
    CPU threads within a convolution wait dozens of times per step, which crawls when another process wants
    the cores. What comes out does not depend on the number of threads.
    """
    before = torch.get_num_threads()
    count = 1 if ensemble.mean.device.type == "cuda" else max(1, min(before, len(ensemble.members)))
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(count, "member", initializer=lambda: torch.set_num_threads(1)) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True, eq=False)
class _Member:
    """One network with all that its own fit needs."""

    ensemble: RewardEnsemble
    network: nn.Module
    optimiser: torch.optim.Optimizer
    generator: np.random.Generator
    config: OptimiseConfig

    def one_pass(self, images: NDArray[np.uint8], train: LabelledPairs, check: LabelledPairs) -> Epoch:
        """One epoch over `train` in an order of its own, then the figures on `check`."""
        config = self.config
        precision = resolve_precision(config.precision, self.ensemble.mean.device)
        order = self.generator.permutation(len(train))
        loss = right = 0.0
        for start in range(0, len(train), config.batch_pairs):
            rows = order[start : start + config.batch_pairs]
            shift = self.generator.integers(-config.shift, config.shift + 1, size=2)
            difference, label = _differences(
                self.ensemble, self.network, images, train, rows, precision, (int(shift[0]), int(shift[1]))
            )
            losses = preference_loss(difference, soften(label, config.margin), config.mistakes)
            self.optimiser.zero_grad(set_to_none=True)
            losses.mean().backward()
            self.optimiser.step()
            loss += float(losses.detach().sum())
            right += _agreements(difference.detach(), label)
        held_out = _evaluate_member(self.ensemble, self.network, images, check, config.mistakes, precision)
        return Epoch(loss / len(train), right / len(train), *held_out)


class _Run:
    """What a fit knows between epochs."""

    def __init__(
        self, ensemble: RewardEnsemble, config: OptimiseConfig, generators: Sequence[np.random.Generator]
    ) -> None:
        self.ensemble, self.config = ensemble, config
        self.members = [
            _Member(
                ensemble,
                network,
                torch.optim.AdamW(
                    network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
                ),
                generator,
                config,
            )
            for network, generator in zip(ensemble.members, generators, strict=True)
        ]
        self.history: list[Epoch] = []
        self.best_state = self._weights()

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.ensemble.members.state_dict().items()}

    @property
    def best(self) -> int:
        """Number of the epoch with the lowest held-out loss, the first of equals."""
        return min(range(len(self.history)), key=lambda k: self.history[k].held_out_loss)

    def add(self, figures: Sequence[Epoch]) -> None:
        """Take the members' figures of an epoch that was just made."""
        epoch = Epoch(*np.mean([astuple(each) for each in figures], axis=0).tolist())
        if not np.isfinite(epoch.train_loss):
            raise LabelError(
                f"epoch {len(self.history) + 1}: the loss is {epoch.train_loss}, the fit diverged: lower "
                "--optimise.learning-rate."
            )
        self.history.append(epoch)
        if self.best == len(self.history) - 1:
            self.best_state = self._weights()

    def finished(self) -> bool:
        """Whether the early stop fires."""
        rule = self.config.early_stop
        if not self.history or rule == "none":
            return False
        if rule == "accuracy":
            return self.history[-1].train_accuracy > self.config.accuracy
        return len(self.history) - 1 - self.best >= self.config.patience

    def save(self, path: Path, key: str) -> None:
        """Write everything that the next epoch depends on."""
        state = {
            "key": key,
            "members": self._weights(),
            "best": self.best_state,
            "optimisers": [member.optimiser.state_dict() for member in self.members],
            "generators": [member.generator.bit_generator.state for member in self.members],
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
        for member, optimiser, generator in zip(
            self.members, state["optimisers"], state["generators"], strict=True
        ):
            member.optimiser.load_state_dict(optimiser)
            member.generator.bit_generator.state = generator
        self.history = [Epoch(*figures) for figures in state["history"]]


def _differences(
    ensemble: RewardEnsemble,
    network: nn.Module,
    images: NDArray[np.uint8],
    pairs: LabelledPairs,
    rows: NDArray[np.int64],
    precision: Literal["bf16", "fp32"],
    shift: tuple[int, int] = (0, 0),
) -> tuple[Tensor, Tensor]:
    """r̂(second) − r̂(first) and labels of `rows` of `pairs`, pictures moved down and right by `shift`."""
    device = ensemble.mean.device
    both = np.concatenate([pairs.first[rows], pairs.second[rows]])
    frames = moved(ensemble.prepare(torch.from_numpy(images[both]).to(device)), *shift)
    with autocast(device, precision):
        reward = network(frames)
    first, second = reward.chunk(2)
    return second - first, torch.from_numpy(pairs.label[rows]).to(device)


def moved(pictures: Tensor, down: int, right: int) -> Tensor:
    """(batch, 3, height, width) moved by whole pixels; what comes in repeats the border."""
    if down == right == 0:
        return pictures
    height, width = pictures.shape[2:]
    rows = (torch.arange(height, device=pictures.device) - down).clamp_(0, height - 1)
    columns = (torch.arange(width, device=pictures.device) - right).clamp_(0, width - 1)
    stored = pictures.permute(0, 2, 3, 1)
    return stored.index_select(1, rows).index_select(2, columns).permute(0, 3, 1, 2)


def evaluate(
    ensemble: RewardEnsemble,
    images: NDArray[np.uint8],
    pairs: LabelledPairs,
    mistakes: float,
    precision: Literal["bf16", "fp32"],
) -> tuple[float, float]:
    """Bradley-Terry loss and accuracy on `pairs`, means over members; NaN without pairs."""
    figures = [
        _evaluate_member(ensemble, network, images, pairs, mistakes, precision)
        for network in ensemble.members
    ]
    loss, accuracy = np.mean(figures, axis=0).tolist()
    return loss, accuracy


@torch.inference_mode()
def _evaluate_member(
    ensemble: RewardEnsemble,
    network: nn.Module,
    images: NDArray[np.uint8],
    pairs: LabelledPairs,
    mistakes: float,
    precision: Literal["bf16", "fp32"],
    batch_pairs: int = 256,
) -> tuple[float, float]:
    if len(pairs) == 0:
        return float("nan"), float("nan")
    loss = right = 0.0
    for start in range(0, len(pairs), batch_pairs):
        rows = np.arange(start, min(start + batch_pairs, len(pairs)))
        difference, label = _differences(ensemble, network, images, pairs, rows, precision)
        loss += float(preference_loss(difference, label, mistakes).sum())
        right += _agreements(difference, label)
    return loss / len(pairs), right / len(pairs)


def _agreements(difference: Tensor, label: Tensor) -> float:
    """Pairs ranked as labelled; a tie counts one half."""
    return float(torch.where(label == 0.5, 0.5, ((difference > 0) == (label > 0.5)).float()).sum())
