"""The diagnosis as one HTML page that stands alone: what to do, why, and the curves behind it."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from episodes.errors import DatasetError
from policy.diagnosis.plots import dataset_q, figures
from policy.diagnosis.reading import Diagnosis, preferred
from policy.diagnosis.rules import Rules

STYLE = """
:root { --ink: #1d2430; --soft: #5b6675; --line: #dfe4ea; --red: #b3261e;
  --green: #1e7a38; --amber: #9a5b00; }
* { box-sizing: border-box; }
body { margin: 0; background: #f4f6f8; color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 32px 0 8px; }
h3 { font-size: 14px; margin: 16px 0 4px; color: var(--soft); }
p { margin: 6px 0; } p.soft, footer { color: var(--soft); }
section { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 14px 20px;
  margin: 10px 0; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: 5px 10px 5px 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { color: var(--soft); font-weight: 600; font-size: 12.5px; }
td.n { font-variant-numeric: tabular-nums; white-space: nowrap; }
img { max-width: 100%; display: block; }
pre { background: #f0f3f6; border-radius: 6px; padding: 8px 12px; white-space: pre-wrap; font-size: 13px;
  overflow-wrap: anywhere; margin: 6px 0; }
.overfitting { color: var(--red); } .underfitting { color: var(--amber); } .sound { color: var(--green); }
.undecided { color: var(--soft); } b.take { color: var(--green); }
"""
READING = """
<h2>How to read the curves</h2><section><ul>
<li><b>Average dataset Q</b> rises and then falls: the critic has learned the data by heart; take the
checkpoint at the peak, never a later one, and regularise. Its height alone says
nothing, unless it is below what any policy can be worth.</li>
<li><b>TD error</b> and <b>conservative term</b> stay high while dataset Q does not fall: the model is too
small or too strongly regularised. A larger model has to lower them, else it is the data's own noise.</li>
<li><b>Held out</b> far from training: the critic knows the training rows rather than the task.</li>
<li><b>Q in and out of the distribution</b>: uniform actions above the data's are promises that nobody
tried.</li>
<li><b>φ·φ′</b> that grows, an <b>effective rank</b> that shrinks: features of neighbours align; DR3 is for
that.</li>
<li>No curve here is a success rate, and none was compared with one. TD errors of runs with different rewards,
discounts or conservative weights must not be compared.</li></ul></section>
"""
LIMITS = {
    "td_unexplained": ("share of the targets' variance unexplained", "td_high", "above"),
    "separation": ("CQL: how far actions are told apart (0: not at all)", "separation_low", "below"),
}
TOLD = {
    "q_first": "dataset Q at the start",
    "q_peak": "dataset Q at its peak",
    "q_last": "dataset Q at the end",
    "q_least": "differences below this are noise",
    "held_out_lowest": "held-out share unexplained, lowest",
    "held_out_last": "held-out share unexplained, last",
    "feature_cosine": "cosine between features of neighbours",
    "feature_dot": "dot product of features of neighbours",
    "effective_rank": "effective rank of the features",
}


def write_page(folder: Path, found: Sequence[Diagnosis], rules: Rules, extra: str = "") -> Path:
    """Write index.html into `folder`, all or nothing; plots are embedded, and nothing is run.

    Args:
        found: the runs in the order in which they are told.
        extra: HTML of further sections, such as those of fitted Q evaluation.

    Raises:
        DatasetError: the page cannot be written.
    """
    best = preferred(found)
    body = [
        "<h1>Diagnosis of offline training</h1>",
        f'<p>Take <b class="take">{html.escape(str(best.run))}</b>, step {best.choice.step} '
        f"({best.finding.verdict}).</p>",
        _overview(found),
        *(_run(each, rules) for each in found),
        extra,
        READING,
        _rules(rules),
    ]
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>armchair diagnose</title><style>{STYLE}</style><main>{''.join(body)}</main></html>"
    )
    path = folder / "index.html"
    partial = folder / f"index.html.{os.getpid()}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial.write_text(page, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise DatasetError(f"{folder}: the page cannot be written ({error}); give another --out.") from error
    return path


def _overview(found: Sequence[Diagnosis]) -> str:
    if len(found) == 1:
        return ""
    rows = "".join(
        f'<tr><td><a href="#{_anchor(each)}">{html.escape(str(each.run))}</a></td>'
        f'<td>{each.config.algo.name}</td><td class="{each.finding.verdict}">{each.finding.verdict}</td>'
        f'<td class="n">{each.choice.step}</td><td class="n">{each.parameters}</td></tr>'
        for each in found
    )
    return (
        "<section><table><tr><th>run</th><th>algorithm</th><th>verdict</th><th>take step</th>"
        f"<th>numbers in Q</th></tr>{rows}</table></section>"
    )


def _run(each: Diagnosis, rules: Rules) -> str:
    finding = each.finding
    parts = [
        f'<h2 id="{_anchor(each)}">{html.escape(str(each.run))}: '
        f'<span class="{finding.verdict}">{finding.verdict}</span></h2><section>',
        f"<p>{html.escape(finding.because)}.</p>",
        f'<p class="soft">{each.config.algo.name}, step {each.step} of {each.config.loop.steps}, '
        f"{each.episodes['train']} episodes trained on, {each.episodes['valid']} held out.</p>",
        f"<h3>Checkpoint</h3><p>{html.escape(each.choice.note)}.</p>",
    ]
    if each.choice.name is not None:
        export = f"armchair export {each.run} --checkpoint {each.choice.name}"
        parts.append(f"<pre>{html.escape(export)}</pre>")
    if (recover := each.recover()) is not None:
        parts.append(f"<p>To have it:</p><pre>{html.escape(recover)}</pre>")
    if each.next:
        parts.append(f"<h3>Train next: {html.escape(each.next[0].why)}</h3>")
        parts.append(f"<pre>{html.escape(each.next_command() or '')}</pre>")
        others = "; ".join(f"{change.name} ({change.why})" for change in each.next[1:])
        parts.append(f'<p class="soft">After that: {html.escape(others)}.</p>' if others else "")
    elif finding.verdict in ("overfitting", "underfitting"):
        parts.append("<p>Every remedy is in use already: record more episodes, or look at the reward.</p>")
    parts += [
        f'<img alt="average dataset Q" src="data:image/png;base64,{_base64(dataset_q(each, rules))}">',
        f'<img alt="losses, features" src="data:image/png;base64,{_base64(figures(each))}">',
        _figures(each, rules),
        "</section>",
    ]
    return "".join(parts)


def _anchor(each: Diagnosis) -> str:
    """An anchor for a run's section."""
    return "run-" + "".join(c if c.isalnum() else "-" for c in str(each.run))


def _figures(each: Diagnosis, rules: Rules) -> str:
    found, rows = each.finding.figures, []
    for name, (told, rule, side) in LIMITS.items():
        if name in found:
            limit = f"high when {side} {getattr(rules, rule):g} (--rules.{rule.replace('_', '-')})"
            rows.append((told, found[name], limit))
    rows += [(told, found[name], "") for name, told in TOLD.items() if name in found]
    cells = "".join(
        f'<tr><td>{html.escape(told)}</td><td class="n">{value:.4g}</td><td>{html.escape(limit)}</td></tr>'
        for told, value, limit in rows
    )
    return f"<h3>Figures</h3><table>{cells}</table>"


def _rules(rules: Rules) -> str:
    cells = "".join(
        f'<tr><td>--rules.{f.name.replace("_", "-")}</td><td class="n">{getattr(rules, f.name)}</td></tr>'
        for f in fields(rules)
    )
    return (
        "<footer><details><summary>every number of the rules</summary>"
        f"<table>{cells}</table></details></footer>"
    )


def _base64(picture: bytes) -> str:
    return base64.b64encode(picture).decode()
