"""Checkpoints of runs valued by fitted Q evaluation, and ranked where they can be compared."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from episodes.contract import load_contract
from episodes.errors import DatasetError
from policy.algorithms.oril import ORIL
from policy.checkpoint import Checkpoints, load_state
from policy.data import OfflineData, load_data
from policy.diagnosis.advice import critic_settings
from policy.diagnosis.fqe import Estimate, FqeConfig, Recorded, fitted_q_evaluation
from policy.diagnosis.reading import Diagnosis, read_facts
from policy.normalise import ActionRange, Normaliser
from policy.observations import Seen
from policy.protocols import PolicyLearner
from policy.run import CONTRACT_FILE, load_tower, observation_space
from policy.settings import require
from policy.towers import Tower, features
from policy.transitions import Transitions, gather

ROWS_AT_ONCE = 512


@dataclass(frozen=True)
class ValueConfig:
    """Which checkpoints are valued, and on what."""

    checkpoints: int = 4
    """Checkpoints per run, evenly spaced among those on disk, beside the one that is advised."""
    split: Literal["train", "valid", "all"] = "all"
    """Episodes to value on: those trained on, those held out, or both."""
    reward: str = ""
    """Whose reward, as in --data.reward; the run's own when left out (ORIL: its discriminator's)."""
    fit: FqeConfig = field(default_factory=FqeConfig)
    """The fit."""

    def __post_init__(self) -> None:
        require(self.checkpoints >= 1, "fqe-with.checkpoints", self.checkpoints, "give 1 or more")


@dataclass(frozen=True)
class Valued:
    """A checkpoint and what its policy is estimated to be worth."""

    run: str
    checkpoint: str
    step: int
    estimate: Estimate
    basis: str
    """Data, split, reward and discount: only values of one basis can be compared."""


def value_runs(
    found: Sequence[Diagnosis],
    config: ValueConfig,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[Valued]:
    """Value checkpoints of every run, the best of each basis first.

    Args:
        progress: called with (fits done, fits in all).

    Raises:
        DatasetError: prepared files or checkpoints are missing or changed, or a split is empty.
    """
    wanted = [(each, name) for each in found for name in selected(each, config.checkpoints)]
    valued: list[Valued] = []
    for each in found:
        names = [name for other, name in wanted if other is each]
        if names:
            run = _Run(each, config)
            for name in names:
                valued.append(run.value(name))
                if progress is not None:
                    progress(len(valued), len(wanted))
    return sorted(valued, key=lambda v: (v.basis, -v.estimate.value))


def selected(each: Diagnosis, count: int) -> list[str]:
    """The checkpoints of a run to value: `count` evenly spaced ones, the last among them, and the advised."""
    names = Checkpoints(each.run / "checkpoints", 0).names()
    ordered = list(names)
    if not ordered:
        return []
    spaced = {ordered[round(k)] for k in np.linspace(len(ordered) - 1, 0, min(count, len(ordered)))}
    chosen = spaced | ({each.choice.name} if each.choice.name in names else set())
    return [name for name in ordered if name in chosen]


def share_best(valued: Sequence[Valued]) -> list[float]:
    """In what share of the bootstrap draws each is the best of its basis. Draws are of the same episodes for
    all of a basis, so they are compared draw by draw."""
    shares = []
    for each in valued:
        peers = np.array([v.estimate.draws for v in valued if v.basis == each.basis])
        shares.append(float((np.array(each.estimate.draws) >= peers.max(axis=0)).mean()))
    return shares


def section(valued: Sequence[Valued]) -> str:
    """The ranking as a part of the page."""
    if not valued:
        return ""
    rows = "".join(
        f"<tr><td>{html.escape(each.run)}</td><td>{html.escape(each.checkpoint)}</td>"
        f'<td class="n">{each.step}</td><td class="n">{each.estimate.value:.3f}</td>'
        f'<td class="n">{each.estimate.low:.3f} to {each.estimate.high:.3f}</td>'
        f'<td class="n">{100 * share:.0f} %</td><td>{html.escape(each.basis)}</td></tr>'
        for each, share in zip(valued, share_best(valued), strict=True)
    )
    return (
        "<h2>Fitted Q evaluation</h2><section><table><tr><th>run</th><th>checkpoint</th><th>step</th>"
        "<th>discounted return</th><th>interval</th><th>best in draws</th><th>on</th></tr>"
        f'{rows}</table><p class="soft">Mean return from the first states of the episodes, in the units of '
        "the reward that was learned from; bootstrap over episodes. It holds as far as the recordings cover "
        "what the policy does: intervals do not show what nobody tried.</p></section>"
    )


def as_json(valued: Sequence[Valued]) -> list[dict[str, object]]:
    """Values as plain JSON."""
    return [
        {
            "run": each.run,
            "checkpoint": each.checkpoint,
            "step": each.step,
            "value": each.estimate.value,
            "interval": [each.estimate.low, each.estimate.high],
            "episodes": each.estimate.episodes,
            "best_in_draws": share,
            "basis": each.basis,
        }
        for each, share in zip(valued, share_best(valued), strict=True)
    ]


class _Run:
    """A run's recordings, as its networks see them."""

    def __init__(self, each: Diagnosis, config: ValueConfig) -> None:
        self.each, self.config = each, config
        run, algo = each.config, each.config.algo
        facts = read_facts(each.run)
        own = run.data.reward if algo.uses_rewards else "zero"
        source = replace(run.data, n_step=1, prior=(), weights=(), reward=config.reward or own)
        data = load_data(source)
        self.contract = load_contract(each.run / CONTRACT_FILE)
        if self.contract.interface_sha256 != data.contract.interface_sha256:
            raise DatasetError(f"{run.data.files[0]}: this is not the robot that {each.run} was trained for.")
        self.tower: Tower | None = None
        if facts["tower_sha256"]:
            self.tower = load_tower(each.run, run, facts["tower_sha256"])
        rows, self.lengths = _chosen(data, config.split)
        self.pictures = data.pictures
        if self.tower is not None and data.pictures is not None:
            here, ahead = features(self.tower, data.pictures, rows, torch.device("cpu"))
            rows = rows._replace(
                observations=torch.cat((rows.observations, here), dim=1),
                next_observations=torch.cat((rows.next_observations, ahead), dim=1),
                frames=None,
                next_frames=None,
            )
            self.pictures = None
        normaliser = Normaliser(np.array(facts["mean"]), np.array(facts["std"]), run.data.std_floor)
        bounds = ActionRange(self.contract.action_lower, self.contract.action_upper)
        self.rows = rows.scaled(normaliser, bounds)
        self.space = observation_space(run, data.streams, data.cameras, self.tower)
        self.discount = critic_settings(algo).discount
        last = self.learner(next(reversed(Checkpoints(each.run / "checkpoints", 0).names())))
        eyes = getattr(last, "learner", last).q.eyes[0]
        self.states, self.next_states = self._apply(eyes), self._apply(eyes, ahead=True)
        self.rewards = self.rows.rewards
        if isinstance(last, ORIL) and not config.reward:
            self.rewards = self._rewarded(last)
        reward = config.reward or (run.data.reward if algo.uses_rewards else "discriminator")
        self.basis = f"{data.sha256[:8]}, {config.split}, reward {reward}, γ {self.discount:g}"

    def learner(self, checkpoint: str) -> PolicyLearner:
        """The learner of a checkpoint, on the CPU."""
        learner = self.each.config.algo.build(self.space, self.contract.action_dim, torch.device("cpu"))
        path = Checkpoints(self.each.run / "checkpoints", 0).path(checkpoint)
        learner.load_state_dict(load_state(path)["learner"])
        return learner

    def value(self, checkpoint: str) -> Valued:
        """Value one checkpoint."""
        starts = torch.tensor(np.cumsum([0, *self.lengths[:-1]]))
        episode = torch.from_numpy(np.repeat(np.arange(len(self.lengths)), self.lengths))
        rows = self.rows
        data = Recorded(
            self.states, rows.actions, self.rewards, self.next_states, rows.terminated, episode, starts
        )
        policy = self.learner(checkpoint).policy
        next_actions = self._apply(policy, ahead=True)
        start_actions = self._apply(policy, rows=gather(rows, starts))
        found = fitted_q_evaluation(data, next_actions, start_actions, self.discount, self.config.fit)
        names = Checkpoints(self.each.run / "checkpoints", 0).names()
        return Valued(str(self.each.run), checkpoint, names[checkpoint], found, self.basis)

    @torch.no_grad()
    def _apply(
        self, network: Callable[[Seen], Tensor], *, ahead: bool = False, rows: Transitions | None = None
    ) -> Tensor:
        """What `network` says of every s, or of every s′."""
        return torch.cat(
            [
                network(part.next_observations if ahead else part.observations)
                for part in self._parts(self.rows if rows is None else rows)
            ]
        )

    @torch.no_grad()
    def _rewarded(self, learner: ORIL) -> Tensor:
        return torch.cat([learner.rewarded(part).rewards for part in self._parts(self.rows)])

    def _parts(self, rows: Transitions) -> Iterator[Transitions]:
        indices = torch.arange(len(rows.rewards)).split(ROWS_AT_ONCE)
        for index in indices:
            part = gather(rows, index)
            yield part if self.pictures is None else self.pictures.observe(part)


def _chosen(data: OfflineData, split: str) -> tuple[Transitions, list[int]]:
    """The transitions of a split, and how many each episode has."""
    sides = {"train": ("train",), "valid": ("valid",), "all": ("train", "valid")}[split]
    rows: list[Transitions] = []
    lengths: list[int] = []
    for side, counts in zip(("train", "valid"), data.episode_rows, strict=True):
        part = getattr(data, side)
        if side in sides and part is not None:
            rows.append(part)
            lengths += counts
    if not rows:
        raise DatasetError(f"--fqe-with.split {split}: the prepared files hold out no episode; give train.")
    joined = (None if columns[0] is None else torch.cat(columns) for columns in zip(*rows, strict=True))
    return Transitions(*joined), lengths
