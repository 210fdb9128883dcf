"""A training configuration as the words of the command line that make it."""

from __future__ import annotations

import dataclasses
import shlex
from typing import Any

from policy.run import TrainConfig


def arguments(config: TrainConfig) -> list[str]:
    """What stands behind `armchair train` to get `config`: everything that is not a default, in order.

    `--seed` is always written: it keeps lists of values apart from the algorithm's name behind them.
    """
    words = [str(config.run)]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name in ("run", "seed", "algo"):
            continue
        # The loop's settings stand at the top, see `TrainConfig.loop`.
        prefix = "" if field.name == "loop" else field.name
        words += _words(prefix, value, field)
    words += ["--seed", str(config.seed), f"algo:{config.algo.name}"]
    return words + _inside("algo", config.algo)


def command(config: TrainConfig) -> str:
    """The whole command, quoted for a shell."""
    return shlex.join(["armchair", "train", *arguments(config)])


def _words(at: str, value: Any, field: dataclasses.Field[Any]) -> list[str]:
    if dataclasses.is_dataclass(value):
        return _inside(at, value)
    if value == _default(field):
        return []
    name = at.replace("_", "-")
    if isinstance(value, bool):
        before, _, last = name.rpartition(".")
        flag = last if value else f"no-{last}"
        return [f"--{before}.{flag}" if before else f"--{flag}"]
    if isinstance(value, tuple):
        return [f"--{name}", *map(str, value)]
    return [f"--{name}", repr(value) if isinstance(value, float) else str(value)]


def _inside(at: str, value: Any) -> list[str]:
    return [
        word
        for field in dataclasses.fields(value)
        for word in _words(f"{at}.{field.name}" if at else field.name, getattr(value, field.name), field)
    ]


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default
