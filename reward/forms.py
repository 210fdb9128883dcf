"""The exact forms of Offline RL-VLM-F and B-Pref, beside the recipe that the defaults are."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Literal

from episodes.errors import ConfigError
from reward.fitting import RewardConfig
from reward.networks import NetworkConfig, NetworkKind
from reward.optimise import OptimiseConfig
from reward.shaping import ShapingConfig

Form = Literal["recipe", "paper"]

BATCH_PAIRS: dict[NetworkKind, int] = {"cnn": 64, "resnet": 32, "state-action": 128}
"""Of `train_reward`; cnn and state-action end in a tanh, ResNet-18 in nothing."""
FREE = ("seed", "device", "held_out", "encoder")
"""Options of the reward model that no form settles."""
FREE_OF_NETWORK = ("kind", "members", "segment", "stride", "resnet", "state_action", "probe")


def paper_config(seed: int = 0, kind: NetworkKind = "cnn") -> RewardConfig:
    """The form of Offline RL-VLM-F: whole pictures in [0, 1], plain loss, stop at 0.97 training accuracy.

    Its pairs are uniform: rounds=(4500,). Its shaping is none; exponent 1 only scales to [0, 1]. Adam's rate
    is 3e-4; the scripts of soccer, rope and water take 1e-4.

    Raises:
        ConfigError: the paper has no such network.
    """
    if kind not in BATCH_PAIRS:
        raise ConfigError(f"--form paper with --network.kind {kind}: the paper has {', '.join(BATCH_PAIRS)}.")
    return RewardConfig(
        network=NetworkConfig(kind=kind, head="linear" if kind == "resnet" else "tanh"),
        optimise=OptimiseConfig(
            learning_rate=3e-4,
            batch_pairs=BATCH_PAIRS[kind],
            early_stop="accuracy",
            mistakes=0.0,
            shift=0,
            precision="fp32",
        ),
        shaping=ShapingConfig(exponent=1.0),
        crop="none",
        centre=False,
        seed=seed,
    )


def in_form(form: Form, wanted: RewardConfig) -> RewardConfig:
    """`wanted` as it is, or the paper's form with what that leaves free: seed, device, share held out, kind
    of network, its members, segments, widths and weights.

    Raises:
        ConfigError: an option was given that the form settles, or the paper has no such network.
    """
    if form == "recipe":
        return wanted
    paper = paper_config(wanted.seed, wanted.network.kind)
    free = {name: getattr(wanted.network, name) for name in FREE_OF_NETWORK}
    changed = [
        f"--{name.replace('_', '-')}"
        for name, value, plain in (
            *_leaves(wanted, RewardConfig(), ("network", *FREE)),
            *_leaves(wanted.network, NetworkConfig(), FREE_OF_NETWORK, "network."),
        )
        if value != plain
    ]
    if changed:
        raise ConfigError(
            f"--form paper settles {', '.join(changed)}: leave that out, or take the recipe and change it."
        )
    return replace(
        paper,
        network=replace(paper.network, **free),
        device=wanted.device,
        held_out=wanted.held_out,
    )


def _leaves(
    config: object, plain: object, without: tuple[str, ...], prefix: str = ""
) -> list[tuple[str, object, object]]:
    """(name, value, default) of every field, those of groups apart."""
    found = []
    for name, value in asdict(config).items():  # type: ignore[call-overload]
        other = asdict(plain)[name]  # type: ignore[call-overload]
        if name in without:
            continue
        if isinstance(value, dict):
            found += [(f"{prefix}{name}.{key}", value[key], other[key]) for key in value]
        else:
            found.append((f"{prefix}{name}", value, other))
    return found
