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
from reward.objectives import Augment, Labels, evaluate_member, losses_of, moved, rewards_of
from reward.pairs import LabelledPairs
from reward.preference import Precision, RewardEnsemble


@dataclass(frozen=True)
class OptimiseConfig:
    """How the ensemble is fitted."""

    learning_rate: float = 1e-3
    """Adam's rate, for all members."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW)."""
    batch_pairs: int = 64
    """Pairs, or scored frames, per step and member."""
    epochs: int = 30
    """Most passes over the pairs."""
    early_stop: Literal["held_out_loss", "accuracy", "none"] = "held_out_loss"
    """held_out_loss: stop after `patience` epochs without a better loss on held-out labels, and take the
    best epoch. accuracy: stop when the members' mean training accuracy exceeds `accuracy`,
    the paper's rule, which never fires when more than 1 − accuracy of the labels are wrong."""
    patience: int = 10
    """Epochs without a better held-out loss. The first round holds out about a hundred pairs, whose loss
    moves by chance more than it falls in a few epochs."""
    accuracy: float = 0.97
    """Training accuracy that ends the fit under early_stop=accuracy."""
    mistakes: float = 0.1
    """ε of the likelihood of a pair: how often the judge is taken to be wrong. 0 is the paper's loss."""
    margin: float = 0.0
    """Label smoothing of pairs: labels become label·(1 − 2·margin) + margin."""
    shift: int = 2
    """Augmentation of pictures: those of a batch are moved by up to this many pixels, borders repeated.
    Without it the networks learn single frames by heart within a few epochs."""
    noise: float = 0.0
    """Augmentation of vectors and encoder features: standard deviation of what is added to each entry, in
    units of its own standard deviation."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic of convolutions; auto takes bf16 where the processor or GPU has instructions for it.
    Networks on vectors compute in fp32."""

    def __post_init__(self) -> None:
        if not 0 <= self.mistakes < 0.5:
            raise ConfigError(f"mistakes {self.mistakes} is out of range: 0 <= mistakes < 0.5.")
        if not 0 <= self.margin < 0.5:
            raise ConfigError(f"margin {self.margin} is out of range: 0 <= margin < 0.5.")
        if self.batch_pairs < 1 or self.epochs < 1 or self.patience < 1:
            raise ConfigError("batch_pairs, epochs and patience are 1 or more.")
        if self.shift < 0 or not 0 <= self.noise < 10:
            raise ConfigError(f"shift {self.shift} and noise {self.noise}: 0 or more (noise below 10).")


@dataclass(frozen=True)
class Epoch:
    """Figures of one pass, means over members. Loss and accuracy of scores are the squared error and the
    share of concordant pairs of frames."""

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


def precision_for(ensemble: RewardEnsemble, wanted: Literal["auto", "bf16", "fp32"]) -> Precision:
    """What `wanted` means for these networks on their device: small products gain nothing from bf16."""
    return "fp32" if ensemble.dim is not None else resolve_precision(wanted, ensemble.mean.device)


def fit(
    ensemble: RewardEnsemble,
    inputs: NDArray[np.generic],
    pairs: Labels,
    config: OptimiseConfig,
    *,
    seed: int,
    checkpoint: Path | None = None,
    key: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> list[Epoch]:
    """Fit `ensemble` in place to labels of cropped uint8 pictures (n, height, width, 3) or vectors (n, d).

    Every member shuffles for itself and makes its own Adam steps, which is the same as one Adam over the
    sum of the members' losses. The early stop looks at the mean over members.

    Args:
        ensemble: as it stands, fresh or fitted before (warm start).
        inputs: cropped to the ensemble's box.
        pairs: rows of `inputs`, labels or scores, and which are held out.
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
    refuse_nonsense(inputs, pairs)
    if len(train) == 0:
        what = "pair" if isinstance(pairs, LabelledPairs) else "frame"
        raise LabelError(
            f"no labelled {what} to fit: label {what}s first, or look at how many the judge left unsure."
        )
    if config.early_stop == "accuracy" and not isinstance(pairs, LabelledPairs):
        raise LabelError("scores have no accuracy to stop by: --optimise.early-stop held_out_loss, or none.")
    if config.early_stop == "held_out_loss" and len(check) == 0:
        raise LabelError(
            f"no held-out pair among {len(pairs)}: label more, or stop without them "
            "(--optimise.early-stop none)."
        )
    run = _Run(
        ensemble, config, [np.random.default_rng([seed, len(pairs), k]) for k in range(len(ensemble.members))]
    )
    if checkpoint is not None and checkpoint.is_file():
        run.take_up(checkpoint, key)
    with _workers(ensemble) as pool:
        while len(run.history) < config.epochs and not run.finished():
            passes = [pool.submit(member.one_pass, inputs, train, check) for member in run.members]
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

    def one_pass(self, inputs: NDArray[np.generic], train: Labels, check: Labels) -> Epoch:
        """One epoch over `train` in an order of its own, then the figures on `check`."""
        config, ensemble, network = self.config, self.ensemble, self.network
        precision = precision_for(ensemble, config.precision)
        order = self.generator.permutation(len(train))
        loss = right = 0.0
        for start in range(0, len(train), config.batch_pairs):
            rows = order[start : start + config.batch_pairs]
            # Batch normalisation has no deviation over a single frame; its running one serves there.
            network.train(len(rows) > 1 or isinstance(train, LabelledPairs))
            rewards = rewards_of(ensemble, network, inputs, train, rows, precision, self._augment())
            losses, agreed = losses_of(rewards, train, rows, mistakes=config.mistakes, margin=config.margin)
            self.optimiser.zero_grad(set_to_none=True)
            losses.mean().backward()
            self.optimiser.step()
            loss += float(losses.detach().sum())
            right += agreed
        held_out = evaluate_member(ensemble, network, inputs, check, config.mistakes, precision)
        return Epoch(loss / len(train), right / len(train), *held_out)

    def _augment(self) -> Augment | None:
        """What disturbs the next batch; chance comes from the member's own generator, so threads that run
        side by side do not change it."""
        config, generator = self.config, self.generator
        if self.ensemble.dim is None:
            down, right = generator.integers(-config.shift, config.shift + 1, size=2).tolist()
            return lambda pictures: moved(pictures, down, right)
        if config.noise == 0:
            return None

        def disturbed(vectors: Tensor) -> Tensor:
            noise = torch.from_numpy(generator.standard_normal(tuple(vectors.shape), np.float32))
            return vectors + config.noise * noise.to(vectors.device)

        return disturbed


def refuse_nonsense(inputs: NDArray[np.generic], labels: Labels) -> None:
    """Refuse what would turn the weights into NaN, or be learned as if it meant something.

    Raises:
        LabelError: an input that a label is about is not finite, or a label is out of its range.
    """
    judged = (
        np.concatenate([labels.first, labels.second]) if isinstance(labels, LabelledPairs) else labels.frame
    )
    if inputs.dtype != np.uint8:
        bad = np.flatnonzero(~np.isfinite(inputs).all(axis=tuple(range(1, inputs.ndim))))
        hit = np.intersect1d(bad, judged)
        if len(hit):
            raise LabelError(
                f"{len(hit)} labelled frames have inputs that are no numbers, row {hit[0]} is the first: "
                "armchair episodes check says where, or leave the stream out."
            )
    low, values = (0.0, labels.label) if isinstance(labels, LabelledPairs) else (-1.0, labels.target)
    wrong = ~((values >= low) & (values <= 1))
    if wrong.any():
        raise LabelError(
            f"{int(wrong.sum())} labels lie outside {low:g} to 1, the first is {values[wrong][0]}: the label "
            "set is damaged."
        )


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
