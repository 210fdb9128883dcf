"""Pictures that stand still, repeat, or show nothing."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from episodes.checks.findings import Finding, Level, graded
from episodes.checks.subject import Subject


def frozen(subject: Subject) -> Iterator[Finding]:
    """A run of identical pictures during which the joints moved. A still arm repeats pictures rightly."""
    bounds, motion = subject.thresholds, subject.motion
    for name in subject.image_streams:
        stamps = subject.samples(name).stamp_ns
        longest_s, at_s, moved = 0.0, 0.0, 0.0
        for first, last in _runs(subject.pictures(name).same):
            seconds = float(stamps[last] - stamps[first]) / 1e9
            way = motion.within(int(stamps[first]), int(stamps[last])) if motion is not None else 0.0
            if seconds > longest_s and way > bounds.frozen_motion:
                longest_s, moved = seconds, way
                at_s = float(stamps[first] - subject.span_ns[0]) / 1e9
        text = "no picture stands still while the joints move"
        if motion is None:
            text = "not judged: no joints were seen to move"
        elif longest_s > 0.0:
            text = f"the same picture for {longest_s:.2f} s from {at_s:.2f} s on, while a joint went "
            text += f"{moved:.0%} of its way"
        yield graded(
            "frozen",
            longest_s,
            bounds.frozen_s,
            bounds.frozen_s,
            text=text,
            advice="Restart the camera (cable, USB power, driver) and record again; exclude this episode.",
            stream=name,
            unit="s",
        )


def _runs(same: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last picture of every run of equal ones."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
    return [(int(a) - 1, int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def duplicates(subject: Subject) -> Iterator[Finding]:
    """Pictures that repeat the one before although the joints moved in between."""
    bounds, motion = subject.thresholds, subject.motion
    if motion is None:
        return
    for name in subject.image_streams:
        stamps, same = subject.samples(name).stamp_ns, subject.pictures(name).same.copy()
        moving = np.array(
            [motion.within(a, b) > bounds.frozen_motion / 10 for a, b in pairwise(stamps.tolist())],
            dtype=np.bool_,
        )
        # A camera that hangs is another matter.
        for first, last in _runs(same):
            if stamps[last] - stamps[first] > bounds.frozen_s * 1e9:
                same[first : last + 1] = False
        count, total = int((same[1:] & moving).sum()), int(moving.sum())
        yield graded(
            "duplicates",
            count / max(1, total),
            bounds.duplicate_warn,
            bounds.duplicate_fail,
            text=f"{count} of {total} pictures repeat the one before while the joints move",
            advice="The driver publishes faster than the camera exposes: lower its rate.",
            stream=name,
            unit="share",
        )


def exposure(subject: Subject) -> Iterator[Finding]:
    """Black, saturated and, for depth, empty pictures among the sampled ones."""
    bounds = subject.thresholds
    for name in subject.image_streams:
        pictures = subject.pictures(name)
        total = len(pictures.dark)
        if not total:
            yield Finding("exposure", Level.FAIL, "not one picture could be decoded", stream=name)
            continue
        black = pictures.dark < bounds.black_mean
        white = pictures.bright > bounds.saturated_share
        share = float((black | white).mean())
        shown = "empty" if pictures.is_depth else "black"
        yield graded(
            "exposure",
            share,
            0.0,
            bounds.exposure_fail,
            text=f"{black.sum()} {shown} and {white.sum()} saturated of {total} pictures looked into",
            advice="Check lens cap, light and exposure; trim the part, or record again.",
            stream=name,
            unit="share",
        )
