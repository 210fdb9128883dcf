"""Checks of a dataset as a whole, from a short summary of each episode."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from episodes.checks.findings import Finding, Level, graded
from episodes.checks.subject import Subject
from episodes.checks.thresholds import Thresholds
from episodes.dataset import Dataset
from episodes.labels import labellers


@dataclass(frozen=True)
class Summary:
    """What the comparison of episodes needs of one."""

    episode: str
    seconds: float
    """From its first stamp to its last."""
    fingerprint: str
    """Equal for equal content, whatever its stamps, id and outcome."""


def summarise(subject: Subject) -> Summary:
    """The summary of an open episode: numbers in full, of the pictures the first, middle and last ones."""
    digest = hashlib.sha256()
    for name in sorted((*subject.vector_streams, *subject.image_streams)):
        samples = subject.samples(name)
        digest.update(f"{name} {len(samples)}\n".encode())
        if name in subject.vector_streams:
            digest.update(samples.values.tobytes())
        else:
            rows = samples.rows[[0, len(samples) // 2, -1]]
            digest.update(samples.stream.read(rows).tobytes())
    if subject.commands is not None:
        digest.update(subject.commands.values.tobytes())
    first_ns, last_ns = subject.span_ns
    return Summary(subject.episode.episode_id, (last_ns - first_ns) / 1e9, digest.hexdigest())


def lengths(summaries: Sequence[Summary], thresholds: Thresholds) -> Iterator[Finding]:
    """Episodes much shorter or longer than the others."""
    seconds = np.array([summary.seconds for summary in summaries])
    if len(seconds) < thresholds.length_episodes:
        count = len(seconds)
        yield Finding("lengths", Level.PASS, f"not judged: {count} episodes are too few to compare")
        return
    low, median, high = np.quantile(seconds, [0.25, 0.5, 0.75])
    spread = thresholds.length_spread * (high - low)
    least, most = low - spread, high + spread
    outliers = 0
    for summary in summaries:
        far = abs(summary.seconds - median) > thresholds.length_share * median
        if far and not least <= summary.seconds <= most:
            outliers += 1
            yield Finding(
                "lengths",
                Level.WARN,
                f"{summary.seconds:.2f} s, the median is {median:.2f} s",
                episode=summary.episode,
                figure=summary.seconds,
                threshold=float(least if summary.seconds < median else most),
                unit="s",
                advice="Watch it; trim or exclude it if it was ended too early or too late.",
            )
    if not outliers:
        yield Finding("lengths", Level.PASS, f"{seconds.min():.2f} to {seconds.max():.2f} s")


def copies(summaries: Sequence[Summary]) -> Iterator[Finding]:
    """Episodes with the same content under several names."""
    groups: dict[str, list[str]] = {}
    for summary in summaries:
        groups.setdefault(summary.fingerprint, []).append(summary.episode)
    for ids in groups.values():
        for episode_id in ids[1:]:
            yield Finding(
                "copies",
                Level.FAIL,
                f"it is a copy of {ids[0]}",
                episode=episode_id,
                advice="Exclude one of them; a copy in both splits makes validation worthless.",
            )
    if all(len(ids) == 1 for ids in groups.values()):
        yield Finding("copies", Level.PASS, f"{len(summaries)} episodes, all different")


def partials(dataset: Dataset) -> Iterator[Finding]:
    """Recordings that are under way, or that a crash left."""
    found = dataset.partials()
    for path in found:
        yield Finding(
            "partials",
            Level.WARN,
            f"{path.name} was never finished",
            episode=path.name.partition("_")[2].removesuffix(".h5.partial"),
            advice=f"Unless it is being recorded: armchair episodes recover {path}",
        )
    if not found:
        yield Finding("partials", Level.PASS, "no unfinished recording")


def sidecars(dataset: Dataset) -> Iterator[Finding]:
    """Edits, splits and labels name episodes that are there."""
    ids = set(dataset.ids())
    named = {"edits.jsonl": set(dataset.edits.in_force())}
    named |= {f"split {split!r}": set(members) for split, members in dataset.splits.items()}
    for labeller in labellers(dataset):
        files = (dataset.path / "labels" / labeller).glob("*.h5")
        named[f"labels of {labeller!r}"] = {path.name.removesuffix(".h5") for path in files}
    for what, members in named.items():
        unknown = sorted(members - ids)
        shown = ", ".join(unknown[:5]) + (" …" if len(unknown) > 5 else "")
        yield graded(
            "sidecars",
            len(unknown),
            0,
            np.inf,
            text=f"{what}: {len(members)} episodes"
            + (f", of which {len(unknown)} are not there: {shown}" if unknown else ""),
            advice="Restore the episodes, or undo the edit, split again, delete the label files.",
            unit="episodes",
        )
