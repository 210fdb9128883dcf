"""Verb `sim`: what there is to do with environments; each has a verb of its own below this one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from episodes.errors import ConfigError, did_you_mean

SUBVERBS = {
    "list": "environments by family, with a line each; --pictures draws them",
    "show": "one environment: spaces, cameras, horizon, source; a window, a film, a robot contract",
    "render": "a still or a film; a recorded episode again from another camera or in another size",
    "collect": "record episodes: the same as armchair collect",
    "rollout": "evaluate a bundle: the same as armchair rollout",
}


@dataclass(frozen=True)
class SimConfig:
    """Work with simulated environments: armchair sim list, show, render, collect or rollout.

    Each of them explains itself: armchair sim render --help.
    """

    verb: Annotated[str, tyro.conf.Positional] = ""
    """list, show, render, collect or rollout; nothing prints this overview."""


def main(config: SimConfig) -> int:
    """Print what there is.

    Raises:
        ConfigError: no such verb.
    """
    if config.verb:
        raise ConfigError(f"there is no {config.verb!r}; {did_you_mean(config.verb, SUBVERBS)}")
    print("armchair sim VERB …: simulated environments\n")
    for name, what in SUBVERBS.items():
        print(f"  {name:<10} {what}")
    return 0
