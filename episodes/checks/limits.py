"""Positions and speeds against the contract's limits, and spikes where there is no limit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from episodes.checks.findings import Finding, graded
from episodes.checks.subject import Subject
from episodes.contract import ActionChannel


def _measured(subject: Subject) -> Iterator[tuple[str, ActionChannel, list[int], list[int]]]:
    """Streams of joint positions and the channel that moves them, with the columns that belong together:
    of the stream and of the channel."""
    for name in subject.filled:
        spec = subject.contract.observations[name]
        if not spec.type.endswith("JointState") or spec.field != "position" or spec.names is None:
            continue
        for channel in subject.contract.actions.values():
            if channel.kind != "joint_position" or channel.measured_by not in (None, name):
                continue
            pairs = [(spec.names.index(n), k) for k, n in enumerate(channel.names) if n in spec.names]
            if pairs:
                yield name, channel, [a for a, _ in pairs], [b for _, b in pairs]


def limits(subject: Subject) -> Iterator[Finding]:
    """Commands and measured joints lie inside the contract's limits."""
    bounds, contract, commands = subject.thresholds, subject.contract, subject.commands
    if commands is not None:
        worst, entry = _outside(commands.values, contract.action_lower, contract.action_upper)
        yield graded(
            "limits",
            worst,
            bounds.limit_tolerance,
            bounds.limit_fail,
            text=_where(worst, contract.action_names[entry]),
            advice="Control would clamp them, so a policy cannot repeat them: correct the limits of the "
            "contract or the source of the actions.",
            stream="commands",
            unit="share",
        )
    for name, channel, columns, entries in _measured(subject):
        lower, upper = np.array(channel.lower)[entries], np.array(channel.upper)[entries]
        worst, entry = _outside(subject.samples(name).values[:, columns], lower, upper)
        yield graded(
            "limits",
            worst,
            bounds.limit_fail,
            2 * bounds.limit_fail,
            text=_where(worst, channel.names[entries[entry]]),
            advice="Check units and zero of the encoders against the contract.",
            stream=name,
            unit="share",
        )


def _outside(
    values: NDArray[np.float64], lower: NDArray[np.float64], upper: NDArray[np.float64]
) -> tuple[float, int]:
    """The largest excess as a share of the entry's range, and the entry."""
    with np.errstate(invalid="ignore"):
        excess = np.maximum(lower - values, values - upper) / np.maximum(upper - lower, 1e-12)
    excess = np.where(np.isfinite(excess), excess, 0.0).max(axis=0)
    entry = int(np.argmax(excess))
    return max(0.0, float(excess[entry])), entry


def _where(worst: float, name: str) -> str:
    return f"{name} lies outside by {worst:.2%} of its range" if worst > 0.0 else "inside"


def velocity(subject: Subject) -> Iterator[Finding]:
    """Commands and measured joints keep to max_velocity; elsewhere no sample leaps out and back."""
    bounds, commands, limited = subject.thresholds, subject.commands, set()
    if commands is not None and len(commands) > 1:
        for channel_name, channel in subject.contract.actions.items():
            if channel.max_velocity is None:
                continue
            values = commands.values[:, subject.contract.action_slices[channel_name]]
            # Two commands that were sent in a burst are still one control period apart for the arm.
            speed = _speeds(values, commands.stamp_ns, subject.contract.period_ns)
            ratio, entry = _ratio(speed, np.array(channel.max_velocity))
            yield graded(
                "velocity",
                ratio,
                bounds.velocity_warn,
                bounds.velocity_fail,
                text=f"{channel.names[entry]} at most at {ratio:.2f} times max_velocity",
                advice="Look for jumps in the source of the actions; trim or exclude the episode.",
                stream="commands",
                unit="× max_velocity",
            )
    for name, channel, columns, entries in _measured(subject):
        samples = subject.samples(name)
        if channel.max_velocity is None or len(samples) < 3:
            continue
        limited.add(name)
        usual_ns = int(np.median(np.diff(np.sort(samples.stamp_ns))))
        speed = _speeds(samples.values[:, columns], samples.stamp_ns, max(1, usual_ns // 2))
        ratio, entry = _ratio(speed, np.array(channel.max_velocity)[entries])
        yield graded(
            "velocity",
            ratio,
            2 * bounds.velocity_warn,
            2 * bounds.velocity_fail,
            text=f"{channel.names[entries[entry]]} at most at {ratio:.2f} times max_velocity",
            advice="An encoder that leaps, or stamps that lie too close: see monotonic and gaps.",
            stream=name,
            unit="× max_velocity",
        )
    yield from _spikes(subject, limited)


def _spikes(subject: Subject, limited: set[str]) -> Iterator[Finding]:
    """Single samples that leap out and back, in streams of positions that no limit bounds."""
    bounds = subject.thresholds
    for name in subject.filled:
        spec = subject.contract.observations[name]
        samples = subject.samples(name)
        if name in limited or spec.is_image or spec.align != "linear" or len(samples) < 40:
            continue
        order = np.argsort(samples.stamp_ns, kind="stable")
        steps = np.diff(np.where(np.isfinite(samples.values), samples.values, 0.0)[order], axis=0)
        usual = np.quantile(np.abs(steps), 0.95, axis=0)
        far = np.maximum(bounds.spike * usual, bounds.spike_step)
        out, back = steps[:-1], steps[1:]
        spikes = (np.abs(out) > far) & (np.abs(back) > far) & (np.sign(out) != np.sign(back))
        names = [(spec.names or ())[k] for k in np.flatnonzero(spikes.any(axis=0))]
        yield graded(
            "velocity",
            int(spikes.any(axis=1).sum()),
            0,
            np.inf,
            text=f"{int(spikes.any(axis=1).sum())} samples leap out and back"
            + (f" in {', '.join(names[:4])}" if names else ""),
            advice="An encoder or a driver glitches: look at it (armchair episodes view), trim or exclude.",
            stream=name,
            unit="samples",
        )


def _speeds(values: NDArray[np.float64], stamp_ns: NDArray[np.int64], least_ns: int) -> NDArray[np.float64]:
    """Speed between neighbours, (N-1, n) per s; steps of time count as `least_ns` at least."""
    steps_s = np.maximum(np.diff(stamp_ns), least_ns) / 1e9
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(np.abs(np.diff(values, axis=0)) / steps_s[:, None])


def _ratio(speed: NDArray[np.float64], limit: NDArray[np.float64]) -> tuple[float, int]:
    """The largest multiple of the limit, and its entry."""
    largest = np.where(np.isfinite(speed), speed, 0.0).max(axis=0) / limit
    entry = int(np.argmax(largest))
    return float(largest[entry]), entry
