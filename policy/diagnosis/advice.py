"""What to do about a verdict: which checkpoint to take, what to change, and the command that does it.

The order of the remedies is that of Kumar et al. 2021 (arXiv 2109.10813): against overfitting the bottleneck
first, then dropout and weight decay; against underfitting a residual encoder, DR3 and capacity.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from policy.algorithms.oril import ORILConfig
from policy.diagnosis.rules import Finding, Rules
from policy.run import TrainConfig
from policy.training import LoopConfig

VIB, DROPOUT, WEIGHT_DECAY, DR3 = 0.001, 0.1, 0.001, 0.03
"""VIB: the workflow's examples. DR3: a later study of the same group. Weight decay: the workflow's 1 is far
too large (docs/algorithms/networks.md)."""
WIDEST, NARROWEST = 2048, 32
EVALUATIONS = 40
"""Evaluations and checkpoints of a run that is to be diagnosed."""


@dataclass(frozen=True)
class Choice:
    """The checkpoint to take."""

    step: int
    """Where it was, or would have been, saved."""
    name: str | None
    """Its name on disk (`policy.checkpoint.Checkpoints`); None where it is gone or was never saved."""
    note: str
    """Why this one, and what to do where it is not on disk."""


@dataclass(frozen=True)
class Change:
    """A run to train next."""

    name: str
    """Word for the run's folder, such as `vib`."""
    why: str
    config: TrainConfig


def choose(finding: Finding, loop: LoopConfig, on_disk: Mapping[str, int], last_step: int) -> Choice:
    """The checkpoint that the workflow takes: the last one, or under overfitting the latest at or before the
    peak of dataset Q, and never a later one.

    Args:
        on_disk: name -> step of every checkpoint, `Checkpoints.names`.
        last_step: how far the run has come.
    """
    if finding.verdict != "overfitting" or finding.peak_step is None:
        newest = max(on_disk, key=lambda name: on_disk[name], default=None)
        step = last_step if newest is None else on_disk[newest]
        return Choice(step, newest, "the last one" if newest else "the run has saved none yet")
    peak = finding.peak_step
    fitting = {name: step for name, step in on_disk.items() if step <= peak}
    saved = loop.checkpoint_every and peak // loop.checkpoint_every * loop.checkpoint_every
    here = max(fitting, key=lambda name: fitting[name], default=None)
    if here is not None and fitting[here] >= saved:
        return Choice(fitting[here], here, f"the latest at or before the peak at step {peak}")
    again = f"--steps {saved or peak} in another folder ends bit for bit there"
    if not saved:
        return Choice(peak, here, f"none was saved before the peak at step {peak}; the same with {again}")
    note = (
        f"step {saved} is the latest saved at or before the peak at step {peak}, but is no longer on disk: "
        f"--keep-last {loop.keep_last} deleted it, --keep-last 0 would have kept it; the same with {again}"
    )
    if here is not None:
        note += f". On disk: {here}, step {fitting[here]}"
    return Choice(saved, here, note)


def changes(finding: Finding, config: TrainConfig, rules: Rules, *, pictures: bool) -> Iterator[Change]:
    """What to train next, the most promising first; nothing for a sound run.

    Args:
        pictures: the networks see pictures, so their encoder can change.
    """
    if finding.verdict == "overfitting":
        yield from _against_overfitting(config)
    elif finding.verdict == "underfitting":
        yield from _against_underfitting(finding, config, rules, pictures)
    elif finding.verdict == "undecided":
        yield from _undecided(finding, config)


def stop_at(config: TrainConfig, step: int) -> TrainConfig:
    """The run that ends where `config` was at `step`, bit for bit, in a folder of its own.

    Its evaluations come at the same steps and its random numbers do not notice them.
    """
    loop = replace(config.loop, steps=step, keep_last=0)
    return replace(config, run=_beside(config.run, f"step-{step}"), loop=loop)


def visible(loop: LoopConfig, steps: int) -> LoopConfig:
    """The loop with enough evaluations for a verdict, each with a checkpoint that is kept."""
    every = max(1, steps // EVALUATIONS)
    return replace(
        loop,
        steps=steps,
        log_every=min(loop.log_every, every),
        evaluate_every=min(loop.evaluate_every or every, every),
        checkpoint_every=min(loop.checkpoint_every or every, every),
        keep_last=0,
    )


def critic_settings(algo: Any) -> Any:
    """The part of an algorithm's configuration that holds `hidden` and `regularise` of its critic."""
    return algo.iql if isinstance(algo, ORILConfig) else algo


def _changed(config: TrainConfig, name: str, why: str, **settings: Any) -> Change:
    """`config` with other critic settings, or another `encoder`, in a folder beside its own."""
    encoder = settings.pop("encoder", config.encoder)
    critic = replace(critic_settings(config.algo), **settings)
    algo = replace(config.algo, iql=critic) if isinstance(config.algo, ORILConfig) else critic
    loop = visible(config.loop, config.loop.steps)
    run = _beside(config.run, name)
    return Change(name, why, replace(config, run=run, algo=algo, encoder=encoder, loop=loop))


def _against_overfitting(config: TrainConfig) -> Iterator[Change]:
    critic = critic_settings(config.algo)
    hidden, on = critic.hidden, critic.regularise
    if hidden and not on.vib and not on.residual:
        yield _changed(
            config,
            "vib",
            "an information bottleneck in Q, the workflow's first remedy",
            regularise=replace(on, vib=VIB),
        )
    if not on.dropout:
        yield _changed(config, "dropout", "dropout in Q", regularise=replace(on, dropout=DROPOUT))
    if not on.l2:
        yield _changed(config, "l2", "weight decay in Q", regularise=replace(on, l2=WEIGHT_DECAY))
    if on.vib and on.vib < 0.1:
        yield _changed(
            config,
            f"vib-{on.vib * 10:g}",
            "a bottleneck ten times as strong",
            regularise=replace(on, vib=on.vib * 10),
        )
    if hidden and min(hidden) >= 2 * NARROWEST:
        half = tuple(width // 2 for width in hidden)
        yield _changed(config, f"width-{max(half)}", "layers of half the width", hidden=half)


def _against_underfitting(
    finding: Finding, config: TrainConfig, rules: Rules, pictures: bool
) -> Iterator[Change]:
    critic = critic_settings(config.algo)
    hidden, on = critic.hidden, critic.regularise
    if on.vib or on.dropout or on.l2 or on.l1:
        yield _changed(
            config,
            "unregularised",
            "what stands against overfitting is taken off",
            regularise=replace(on, vib=0.0, dropout=0.0, l2=0.0, l1=0.0),
        )
    dr3 = _changed(config, "dr3", "DR3 keeps features of neighbours apart", regularise=replace(on, dr3=DR3))
    aligned = finding.figures.get("feature_cosine", 0.0) >= rules.aligned
    if pictures and config.tower.kind == "none" and config.encoder.kind != "workflow-resnet":
        yield _changed(
            config,
            "resnet",
            "a residual encoder of the pictures",
            encoder=replace(config.encoder, kind="workflow-resnet"),
        )
    if aligned and not on.dr3:
        yield dr3
    if hidden and max(hidden) * 2 <= WIDEST:
        wider = tuple(width * 2 for width in hidden)
        yield _changed(config, f"width-{max(wider)}", "layers of twice the width", hidden=wider)
    if hidden and not on.residual and not on.bottleneck:
        yield _changed(
            config,
            "residual",
            "residual blocks in the critic, one more than it has layers",
            hidden=(max(hidden),) * (len(hidden) + 1),
            regularise=replace(on, residual=True),
        )
    if not aligned and not on.dr3:
        yield dr3


def _undecided(finding: Finding, config: TrainConfig) -> Iterator[Change]:
    steps = config.loop.steps * (2 if finding.missing == "steps" else 1)
    loop = visible(config.loop, steps)
    name, why = f"steps-{steps}", "more steps"
    if finding.missing != "steps":
        name, why = "closer", "the same run, looked at more often"
        if finding.missing == "start" or loop == config.loop:
            every = max(1, loop.evaluate_every // 4)
            loop = replace(loop, log_every=min(loop.log_every, every), evaluate_every=every)
    if loop != config.loop:
        yield Change(name, why, replace(config, run=_beside(config.run, name), loop=loop))


def _beside(run: Path, name: str) -> Path:
    return run.with_name(f"{run.name}-{name}")
