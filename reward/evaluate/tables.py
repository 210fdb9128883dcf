"""The parts of the report about judges."""

from __future__ import annotations

import html

from reward.evaluate.report import Evaluation
from reward.evaluate.texts import number, with_interval


def judge_table(found: Evaluation) -> str:
    """Every label set as a measurement of its judge."""
    if not found.judges:
        return ""
    rows, advice = [], []
    for each in found.judges:
        success = ""
        if each.success is not None:
            success = f"precision {number(each.success.precision)}, recall {number(each.success.recall)}"
        unsure = [task.unsure_rate for task in each.tasks if task.unsure_rate is not None]
        rows.append(
            f"<tr><td>{html.escape(each.labels)}</td><td>{each.question}</td>"
            f'<td class="n">{each.usable} of {each.items}</td>'
            f'<td class="n">{", ".join(f"{rate:.0%}" for rate in unsure) or "–"}</td>'
            f'<td class="n">{with_interval(each.swap_consistency)}</td>'
            f'<td class="n">{with_interval(each.self_agreement)}</td>'
            f'<td class="n">{with_interval(each.accuracy)}</td><td>{success}</td></tr>'
        )
        advice += [f'<p class="warn">{html.escape(line)}</p>' for line in each.advice]
    return (
        "<h2>The judges</h2><section><table><tr><th>label set</th><th>question</th><th>usable</th><th>−1</th>"
        "<th>swap consistency</th><th>self-agreement</th><th>agrees with the true reward</th>"
        f"<th>success against the simulation</th></tr>{''.join(rows)}</table>{''.join(advice)}</section>"
    )


def agreement_table(found: Evaluation) -> str:
    """Agreement with people, and of people."""
    if not found.agreements:
        return ""
    rows = "".join(
        f"<tr><td>{html.escape(each.first)}</td><td>{html.escape(each.second)}</td><td>{each.kind}</td>"
        f'<td class="n">{each.both}</td><td class="n">{each.decided}</td>'
        f'<td class="n">{number(each.share)}</td>'
        f'<td class="n">{number(each.kappa)} ({number(each.low)} to {number(each.high)})</td></tr>'
        for each in found.agreements
    )
    return (
        "<h2>Agreement with people</h2><section><table><tr><th></th><th></th><th>question</th>"
        f"<th>both answered</th><th>both decided</th><th>same answer</th>"
        f"<th>Cohen's κ (95 %)</th></tr>{rows}</table></section>"
    )
