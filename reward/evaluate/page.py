"""The report of `reward eval`: one HTML page that stands alone."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reward.evaluate.advice import headline
from reward.evaluate.decisions import Confusion
from reward.evaluate.measure import AgainstLabels, Measured
from reward.evaluate.pictures import Row, jpeg, strip
from reward.evaluate.plots import plot
from reward.evaluate.report import Evaluation
from reward.evaluate.resampling import Figure
from reward.evaluate.tables import agreement_table, judge_table
from reward.evaluate.texts import READINGS, number, with_interval
from reward.frames import FrameId, Frames

STYLE = """
:root { --ink: #1d2430; --soft: #5b6675; --line: #dfe4ea; --accent: #2563a8; --warn: #9a5b00; }
* { box-sizing: border-box; }
body { margin: 0; background: #f4f6f8; color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 27px; margin: 0 0 4px; } h2 { font-size: 20px; margin: 34px 0 8px; }
h3 { font-size: 14px; margin: 18px 0 6px; color: var(--soft); }
p { margin: 6px 0; } p.lead, footer { color: var(--soft); }
section { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 16px 20px;
  margin: 10px 0; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: 5px 10px 5px 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { color: var(--soft); font-weight: 600; font-size: 12.5px; }
td.n { font-variant-numeric: tabular-nums; white-space: nowrap; }
td.big { font-weight: 650; }
img { max-width: 100%; display: block; }
.warn { color: var(--warn); border-left: 3px solid #e0a030; padding-left: 10px; }
.fine { color: #1e7a38; }
.bar { position: relative; height: 14px; background: #eef1f5; border-radius: 4px; min-width: 200px; }
.bar b { position: absolute; inset: 0 auto 0 0; background: var(--accent); border-radius: 4px; }
.bar i { position: absolute; top: 6px; height: 2px; background: var(--ink); }
a { color: var(--accent); } code { font-size: 13px; }
"""


def write_page(
    folder: Path,
    found: Evaluation,
    frames: Frames,
    strips: Mapping[str, Sequence[Row]],
    pictures: Mapping[FrameId, NDArray[np.uint8]],
) -> Path:
    """Write index.html into `folder`, all or nothing; pictures are embedded.

    Args:
        folder: an existing folder.
        found: what is told.
        frames: rows of the dataset.
        strips: frames to show, by labeller.
        pictures: of those frames.

    Raises:
        OSError: the page cannot be written.
    """
    sections = []
    for each in found.measured:
        shown = [
            (row.title, jpeg(strip(row, each.rewards, frames, found.ground, pictures)))
            for row in strips.get(each.labeller, ())
            if len(row.rows)
        ]
        sections.append(_labeller(found, each, plot(each, frames, found.ground), shown))
    body = "\n".join(
        [
            _head(found),
            _side_by_side(found),
            judge_table(found),
            agreement_table(found),
            *sections,
            _foot(found),
        ]
    )
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>armchair reward eval</title><style>{STYLE}</style><main>{body}</main></html>\n"
    )
    path = folder / "index.html"
    partial = folder / f"index.html.{os.getpid()}.partial"
    partial.write_text(page, encoding="utf-8")
    os.replace(partial, path)
    return path


def _head(found: Evaluation) -> str:
    ground = found.ground
    success = (
        f"success of frames from {ground.success_from}"
        if ground.success_from
        else "success of frames unknown"
    )
    episodes = f"of episodes from {ground.episodes_from or 'nobody'}"
    truth = "true reward known" if ground.truth is not None else "no true reward"
    return (
        "<h1>Is the reward any good?</h1>"
        f'<p class="lead">{html.escape(found.dataset)}, {found.episodes} episodes, {found.created_utc}. '
        f"{html.escape(success)}; {html.escape(episodes)}; {truth}.</p>"
    )


def _side_by_side(found: Evaluation) -> str:
    rows = []
    for each in found.measured:
        top, name = headline(each), html.escape(each.labeller)
        rows.append(
            f'<tr><td class="n big"><a href="#{name}">{name}</a></td>'
            f'<td>{html.escape(top.name)}</td><td class="n big">{with_interval(top.figure)}</td>'
            f"<td>{_bar(top.figure)}</td>"
            f'<td class="n">{number(each.figures["successful_episode_rank"].value)}</td>'
            f'<td class="n">{number(each.figures["voc_successful"].value)}</td>'
            f'<td class="n">{each.episodes} of {found.episodes}</td><td>{html.escape(each.basis)}</td></tr>'
        )
    return (
        "<h2>Labellers side by side</h2><section><table><tr><th>labeller</th><th>headline</th>"
        "<th>value (95 %)</th><th></th><th>episode rank</th><th>VOC, successful</th>"
        "<th>episodes</th><th>basis</th></tr>"
        f"{''.join(rows)}</table></section>"
    )


def _labeller(found: Evaluation, each: Measured, figure: bytes, strips: Sequence[tuple[str, bytes]]) -> str:
    lines = found.advice_for(each)
    advice = "".join(f'<p class="warn">{html.escape(line)}</p>' for line in lines)
    rows = "".join(
        f"<tr><td>{html.escape(reading.title)}</td>"
        f'<td class="n">{with_interval(each.figures[reading.name])}</td>'
        f'<td class="n">{each.figures[reading.name].count}</td><td class="n">{reading.chance}</td>'
        f"<td>{html.escape(reading.says)}</td></tr>"
        for reading in READINGS
        if reading.name in each.figures and each.figures[reading.name].count
    )
    against = "".join(_against(one) for one in each.against if one.accuracy.count or one.distance.count)
    shown = "".join(
        f'<h3>{html.escape(title)}</h3><img alt="{html.escape(title)}" src="{_data(image, "jpeg")}">'
        for title, image in strips
    )
    return (
        f'<h2 id="{html.escape(each.labeller)}">{html.escape(each.labeller)}</h2>'
        f'<p class="lead">{html.escape(each.basis)}; {each.frames} frames of {each.episodes} episodes</p>'
        f"<section>{advice or _nothing_wrong(each)}"
        f'<img alt="rewards of {html.escape(each.labeller)}" src="{_data(figure, "png")}">'
        "<table><tr><th>figure</th><th>value (95 %)</th><th>made of</th><th>says nothing at</th><th></th>"
        f"</tr>{rows}</table>"
        f"{_against_table(against)}{_detection(each)}{shown}</section>"
    )


def _nothing_wrong(each: Measured) -> str:
    if headline(each).figure.value is None:
        return '<p class="warn">There is nothing to hold this reward against.</p>'
    return (
        '<p class="fine">No figure is below its bound. That is necessary, not sufficient: train a policy.</p>'
    )


def _against_table(rows: str) -> str:
    if not rows:
        return ""
    return (
        "<h3>against what judges said</h3><table><tr><th>label set</th><th>question</th>"
        "<th>agrees (95 %)</th><th>pairs</th><th>on fitted pairs</th><th>calibration error</th>"
        f"<th>log loss</th><th>Pearson distance to ratings</th></tr>{rows}</table>"
    )


def _against(one: AgainstLabels) -> str:
    which = " held out" if one.fitted else ""
    c = one.calibration
    return (
        f"<tr><td>{html.escape(one.labels)}</td><td>{one.question}</td>"
        f'<td class="n">{with_interval(one.accuracy)}</td><td class="n">{one.accuracy.count}{which}</td>'
        f'<td class="n">{number(one.accuracy_seen.value)}</td>'
        f'<td class="n">{number(None if c is None else c.curve.expected_error)}</td>'
        f'<td class="n">{number(None if c is None else c.curve.loss)}</td>'
        f'<td class="n">{with_interval(one.distance)}</td></tr>'
    )


def _detection(each: Measured) -> str:
    if each.detection is None:
        return ""
    low, high = sorted(each.detection.thresholds)
    return (
        f"<h3>success where the reward is at least {low:.3f} or {high:.3f} "
        "(best F1 on the other half of the episodes)</h3>"
        "<table><tr><th></th><th>rightly called</th><th>wrongly called</th><th>missed</th>"
        "<th>rightly not</th><th>precision</th><th>recall</th><th>F1</th></tr>"
        f"{_confusion('frames', each.detection.frames)}"
        f"{_confusion('episodes', each.detection.episodes)}</table>"
    )


def _confusion(name: str, c: Confusion) -> str:
    cells = (c.true_positives, c.false_positives, c.false_negatives, c.true_negatives)
    shown = "".join(f'<td class="n">{cell}</td>' for cell in cells)
    rates = "".join(f'<td class="n">{number(rate)}</td>' for rate in (c.precision, c.recall, c.f1))
    return f"<tr><td>{name}</td>{shown}{rates}</tr>"


def _bar(figure: Figure) -> str:
    if figure.value is None:
        return ""
    line = ""
    if figure.low is not None and figure.high is not None:
        line = f'<i style="left:{100 * figure.low:.1f}%;width:{100 * (figure.high - figure.low):.1f}%"></i>'
    return f'<div class="bar"><b style="width:{100 * figure.value:.1f}%"></b>{line}</div>'


def _foot(found: Evaluation) -> str:
    words = (
        f"Intervals: 95 % percentile bootstrap over whole episodes, {found.resamples} resamples.",
        f"Held-out preferences: {found.held_out:.0%} of the pairs, by the key of their answer.",
        f"EPIC: γ {found.gamma}.",
        "Formulas and how to read them: docs/reward-eval.md.",
        "The same figures: figures.json beside this page.",
    )
    return f"<footer><p>{html.escape(' '.join(words))}</p></footer>"


def _data(image: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
