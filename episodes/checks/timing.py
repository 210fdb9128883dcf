"""Stamps, rates, gaps, losses, and whether the streams fit together in time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from episodes.align import align_episode
from episodes.checks.findings import Finding, Level, graded
from episodes.checks.subject import Subject
from episodes.errors import EpisodeError

RERECORD = "Look at cables, exposure, processor load and the disk; trim to the whole part, or record again."


def _columns(subject: Subject) -> Iterator[tuple[str, NDArray[np.int64], NDArray[np.int64]]]:
    """Name, source stamps and receive stamps of every stream that holds a sample, commands last."""
    for name in subject.episode.streams:
        samples = subject.samples(name)
        if len(samples):
            yield name, samples.stamp_ns, samples.recv_ns
    if subject.commands is not None:
        yield "commands", subject.commands.stamp_ns, subject.commands.recv_ns


def monotonic(subject: Subject) -> Iterator[Finding]:
    """Stamps rise: back by little is out of order, back by much is a clock that jumped."""
    jump_s = subject.thresholds.clock_jump_s
    for name, stamp_ns, recv_ns in _columns(subject):
        for what, times in (("source", stamp_ns), ("receive", recv_ns)):
            steps = np.diff(times)
            back = steps[steps < 0]
            worst_s = float(-back.min() / 1e9) if len(back) else 0.0
            if what == "receive" and not len(back):
                continue
            jumped = "the clock jumped" if worst_s > jump_s else "samples came out of order"
            text = f"{len(back)} {what} stamps go back, by {worst_s:.3f} s at most: {jumped}"
            yield graded(
                "monotonic",
                worst_s,
                0.0,
                jump_s,
                text=text if len(back) else f"{len(times)} stamps rise",
                advice="Keep the clocks synchronised while recording (chrony, PTP, nobody sets them); trim "
                "or exclude the episode.",
                stream=name,
                unit="s",
            )


def rate(subject: Subject) -> Iterator[Finding]:
    """Every stream of the contract delivers: the reference and the commands at the contract's rate, the
    others often enough for their maximum age."""
    contract, share = subject.contract, subject.thresholds.rate_share
    for name, spec in contract.observations.items():
        samples = subject.samples(name) if name in subject.observed else None
        if samples is None or not len(samples):
            simulated = spec.is_image and subject.recorded["clock"] == "sim"
            text = "no sample" + (": the pictures were not rendered" if simulated else "")
            yield Finding(
                "rate",
                Level.WARN if simulated else Level.FAIL,
                text,
                stream=name,
                figure=0.0,
                unit="Hz",
                advice="Collect with a renderer if they are needed." if simulated else RERECORD,
            )
            continue
        if spec.align == "hold" or len(samples) < 2:
            continue
        found_hz = _rate_hz(samples.stamp_ns)
        reference = name == contract.reference
        least_hz = share * contract.rate_hz if reference else 1e9 / spec.max_age_ns
        low = found_hz < least_hz
        text = f"{found_hz:.2f} Hz"
        if low:
            text += f", needed are {least_hz:.2f} Hz"
            text += " for the contract's rate" if reference else f" for max_age_ms {spec.max_age_ns / 1e6:g}"
        yield Finding(
            "rate",
            Level.PASS if not low else Level.WARN if reference else Level.FAIL,
            text,
            stream=name,
            figure=found_hz,
            threshold=least_hz,
            unit="Hz",
            advice=RERECORD if low else "",
        )
    yield from _command_rate(subject)


def _command_rate(subject: Subject) -> Iterator[Finding]:
    contract, commands = subject.contract, subject.commands
    if all(channel.record_from == "next_state" for channel in contract.actions.values()):
        return
    if commands is None or len(commands) < 2:
        count = 0 if commands is None else len(commands)
        yield Finding(
            "rate",
            Level.FAIL,
            f"{count} commands: there is nothing to learn from",
            stream="commands",
            figure=0.0,
            unit="Hz",
            advice="Check the contract's record_from and that the command topic was published.",
        )
        return
    # The median, so that a pause does not count here: it is a gap.
    found_hz = 1e9 / max(1.0, float(np.median(np.diff(commands.stamp_ns))))
    least_hz = subject.thresholds.rate_share * contract.rate_hz
    low = found_hz < least_hz
    yield Finding(
        "rate",
        Level.WARN if low else Level.PASS,
        f"{found_hz:.2f} Hz" + (f", the contract asks for {contract.rate_hz:g} Hz" if low else ""),
        stream="commands",
        figure=found_hz,
        threshold=least_hz,
        unit="Hz",
        advice="Lower rate_hz in the contract, or send commands at its rate." if low else "",
    )


def _rate_hz(stamp_ns: NDArray[np.int64]) -> float:
    span_ns = int(stamp_ns.max() - stamp_ns.min())
    return (len(np.unique(stamp_ns)) - 1) * 1e9 / span_ns if span_ns else 0.0


def gaps(subject: Subject) -> Iterator[Finding]:
    """No stream is silent for longer than its maximum age, up to the episode's end."""
    bounds, end_ns = subject.thresholds, subject.span_ns[1]
    for name in subject.filled:
        spec = subject.contract.observations[name]
        times = np.unique(np.append(subject.samples(name).stamp_ns, end_ns))
        yield _gap(name, times, spec.max_age_ns / 1e9, bounds.gap_fail * spec.max_age_ns / 1e9, end_ns)
    if subject.commands is not None:
        times = np.unique(subject.commands.stamp_ns)
        yield _gap("commands", times, bounds.command_gap_s, np.inf, end_ns)


def _gap(name: str, times: NDArray[np.int64], warn_s: float, fail_s: float, end_ns: int) -> Finding:
    steps = np.diff(times) / 1e9
    longest_s = float(steps.max()) if len(steps) else 0.0
    text = f"the longest is {longest_s:.3f} s"
    if longest_s > warn_s:
        where = int(np.argmax(steps))
        ago_s = (end_ns - int(times[where])) / 1e9
        text = f"{int((steps > warn_s).sum())} above {warn_s:g} s, {text}, {ago_s:.2f} s before the end"
    return graded("gaps", longest_s, warn_s, fail_s, text=text, advice=RERECORD, stream=name, unit="s")


def dropped(subject: Subject) -> Iterator[Finding]:
    """Samples that the recorder counted as lost, and such that are missing in a regular stream."""
    bounds = subject.thresholds
    for name in subject.episode.streams:
        samples = subject.samples(name)
        counted = int(samples.stream.attrs["dropped"])
        missing = _missing(samples.stamp_ns)
        total = max(1, len(samples) + max(counted, missing))
        share = max(counted, missing) / total
        if share > bounds.missing_fail:
            level = Level.FAIL
        else:
            level = Level.WARN if counted or missing / total > bounds.missing_warn else Level.PASS
        text = f"{counted} counted by the recorder, {missing} missing by their stamps, of {total}"
        yield Finding(
            "dropped",
            level,
            text,
            stream=name,
            figure=share,
            threshold=bounds.missing_fail if level is Level.FAIL else bounds.missing_warn,
            unit="share",
            advice=RERECORD if level else "",
        )


def _missing(stamp_ns: NDArray[np.int64]) -> int:
    """How many samples a stream lacks, 0 for one that is not regular."""
    steps = np.diff(np.unique(stamp_ns)).astype(np.float64)
    if len(steps) < 10:
        return 0
    usual = float(np.median(steps))
    if (np.abs(steps - usual) < 0.3 * usual).mean() < 0.8:
        return 0
    return int((np.round(steps / usual) - 1).clip(0).sum())


def repeated(subject: Subject) -> Iterator[Finding]:
    """Samples that have the stamp of another one of their stream."""
    bounds = subject.thresholds
    for name, stamp_ns, _ in _columns(subject):
        if name == "commands":
            continue
        count = len(stamp_ns) - len(np.unique(stamp_ns))
        yield graded(
            "duplicates",
            count / len(stamp_ns),
            0.0,
            bounds.duplicate_fail,
            text=f"{count} of {len(stamp_ns)} samples have the stamp of another one",
            advice="Two publishers on one topic, or a driver that sends twice: end one of them.",
            stream=name,
            unit="share",
        )


def alignment(subject: Subject) -> Iterator[Finding]:
    """The streams make transitions, and no stream's stamps are of another clock than the others'."""
    bounds, contract = subject.thresholds, subject.contract
    delays = {
        name: float(np.median(subject.samples(name).recv_ns - subject.samples(name).stamp_ns)) / 1e9
        for name in subject.filled
    }
    for name, delay_s in delays.items():
        largest_s = contract.observations[name].max_age_ns / 1e9
        apart_s = abs(delay_s - delays.get(contract.reference, delay_s))
        if apart_s > largest_s:
            yield Finding(
                "alignment",
                Level.FAIL,
                f"its stamps lie {apart_s:.3f} s off those of {contract.reference}, its maximum age is "
                f"{largest_s:g} s: they are of different clocks",
                stream=name,
                figure=apart_s,
                threshold=largest_s,
                unit="s",
                advice="Stamp both with one clock (synchronise the computers; use_device_time off).",
            )
        elif delay_s < -bounds.ahead_s:
            yield Finding(
                "alignment",
                Level.WARN,
                f"its stamps lie {-delay_s:.3f} s after the receipt of the sample",
                stream=name,
                figure=-delay_s,
                threshold=bounds.ahead_s,
                unit="s",
                advice="The source's clock is ahead: synchronise the computers.",
            )
    try:
        aligned = align_episode(subject.episode, streams=())
    except EpisodeError as error:
        text = " ".join(str(error).replace(f"{subject.episode.path}: ", "").split())
        yield Finding("alignment", Level.FAIL, text, advice="See the gaps and rates, or exclude the episode.")
        return
    skipped = {reason: n for reason, n in aligned.skipped.items() if reason != "trimmed"}
    total = len(aligned) + 1 + sum(skipped.values())
    why = ", ".join(f"{reason} {n}" for reason, n in sorted(skipped.items()))
    text = f"{len(aligned)} transitions; {sum(skipped.values())} of {total} ticks left out"
    yield graded(
        "alignment",
        sum(skipped.values()) / total,
        bounds.skipped_warn,
        bounds.skipped_fail,
        text=text + (f" ({why})" if why else ""),
        advice="Only the longest stretch without a hole is used: see the gaps, trim, or record again.",
        unit="share",
    )
