"""A live environment as a learner sees it: normalised observations, actions in [-1, 1]."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from episodes.errors import ConfigError
from policy.normalise import ActionRange, Normaliser

if TYPE_CHECKING:
    from policy.protocols import Env, Observation


@dataclass(frozen=True)
class Episode:
    """T steps of one episode."""

    observations: Tensor
    """(T + 1, D), normalised; the last one is the state in which it ended."""
    actions: Tensor
    """(T, dim), as the policy drew them; the environment got them clipped to [-1, 1]."""
    terminated: bool
    """The task ended; otherwise the episode was cut off."""
    task_return: float
    """Sum of the environment's own rewards, which no learner of imitation looks at."""
    success: bool
    """Whether the task was done at any step."""


class Live:
    """Runs a policy in an environment."""

    def __init__(
        self, env: Env, normaliser: Normaliser, action_range: ActionRange, streams: tuple[str, ...]
    ) -> None:
        """`normaliser` and `action_range` are those of the data; `streams` is the order of its vectors."""
        self.env = env
        self.normaliser = normaliser
        self.action_range = action_range
        self.streams = streams

    @torch.no_grad()
    def run(self, draw: Callable[[Tensor], Tensor], *, seed: int, episode: int, most_steps: int) -> Episode:
        """One episode with actions `draw` (1, D) -> (1, dim), which `seed` and `episode` fix but for `draw`.

        Raises:
            ConfigError: an action is not finite.
        """
        step = self.env.reset(seed=seed, episode=episode)
        seen, actions = [self._state(step.observation)], []
        total, success = 0.0, False
        while not (step.terminated or step.truncated) and len(actions) < most_steps:
            action = draw(seen[-1])
            if not torch.isfinite(action).all():
                wrong = action[~torch.isfinite(action)][0].item()
                raise ConfigError(
                    f"the policy's action is {wrong} in step {len(actions)} of episode {episode}: the "
                    "training diverged. The checkpoints before it are kept. Lower the learning rates."
                )
            command = self.action_range(action.clamp(-1.0, 1.0))[0]
            step = self.env.step(command.cpu().numpy().astype(np.float64))
            actions.append(action)
            seen.append(self._state(step.observation))
            total += float(step.reward)
            success = success or bool(step.success)
        return Episode(torch.cat(seen), torch.cat(actions), bool(step.terminated), total, success)

    def _state(self, observation: Observation) -> Tensor:
        row = np.concatenate([np.asarray(observation[name], np.float32) for name in self.streams])
        return self.normaliser(torch.from_numpy(row).to(self.normaliser.mean.device).unsqueeze(0))
