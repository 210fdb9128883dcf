"""The demo's report: one self-contained HTML page made from the figures of report.json."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib.figure import Figure

STYLE = Path(__file__).with_name("report.css")


def write_report(
    path: Path, figures: Mapping[str, Any], *, filmstrip: Path | None, video: Path | None
) -> None:
    """Write `path` (HTML) from the figures of `report.json`; media are embedded, so the page stands alone."""
    body = "\n".join(
        [
            _header(figures),
            _success(figures["success"], figures.get("deployment")),
            _deployment(figures.get("deployment"), filmstrip, video),
            _reward(figures["reward_quality"], figures["judge"]),
            _curves(figures["runs"]),
            _stages(figures["stages"]),
            _provenance(figures),
        ]
    )
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>armchair demo</title><style>{STYLE.read_text()}</style><main>{body}</main></html>"
    )
    path.write_text(page, encoding="utf-8")


def _header(figures: Mapping[str, Any]) -> str:
    return (
        "<h1>armchair: record, judge, learn, deploy</h1>"
        f'<p class="lead">{html.escape(figures["task"])}, seed {figures["seed"]}, '
        f"{html.escape(figures['created_utc'])}. {html.escape(figures['headline'])}</p>"
    )


def _success(legs: Sequence[Mapping[str, Any]], deployment: Mapping[str, Any] | None) -> str:
    rows = []
    for leg in legs:
        low, high = leg["interval"]
        bar = (
            f'<div class="bar"><b style="width:{100 * leg["rate"]:.1f}%"></b>'
            f'<i style="left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"></i></div>'
        )
        rows.append(
            f"<tr><td>{html.escape(leg['title'])}</td><td>{bar}</td>"
            f'<td class="n">{leg["successes"]} of {leg["episodes"]}</td>'
            f'<td class="n">{low:.2f} to {high:.2f}</td></tr>'
        )
    note = (
        "Success is any step within the horizon, on goals that no training episode had. "
        "Line: 95 % Wilson interval."
    )
    if deployment:
        note += (
            f" Over ROS 2 the exported policy reached {deployment['successes']} of "
            f"{deployment['episodes']}, {'the same as' if deployment['equal_in_process'] else 'NOT as'} "
            "in process, goal by goal."
        )
    return (
        "<h2>Success on unseen goals</h2><section><table><tr><th>policy</th><th></th><th>successes</th>"
        f"<th>interval</th></tr>{''.join(rows)}</table><p class='lead'>{html.escape(note)}</p></section>"
    )


def _deployment(deployment: Mapping[str, Any] | None, filmstrip: Path | None, video: Path | None) -> str:
    if deployment is None:
        return ""
    parts = [
        "<h2>Deployment over ROS 2, in lock-step</h2><section>",
        f"<p>{deployment['ticks']} ticks{_speed(deployment['ticks_per_s'])} with one camera; "
        f"{deployment['changed_by_limits']} commands were changed by the limits, "
        "the others passed bit by bit. "
        f"Recorded as {deployment['episodes']} episodes in "
        f"<code>{html.escape(deployment['dataset'])}</code>.</p>",
    ]
    if filmstrip is not None:
        parts.append(f'<p><img alt="filmstrip of one deployment" src="{_data(filmstrip, "image/png")}"></p>')
    if video is not None:
        parts.append(f'<video controls muted loop src="{_data(video, "video/mp4")}"></video>')
    return "".join(parts) + "</section>"


def _reward(quality: Mapping[str, Any], judge: Mapping[str, Any]) -> str:
    rows = [
        (
            "P(success frame scored above the best decile of the others)",
            quality["success_above_best_decile"],
            "what control needs; below 0.9 the policy tends to hover",
        ),
        (
            "P(an episode with success has a higher learned return than one without)",
            quality["successful_episode_rank"],
            "",
        ),
        (
            "held-out preference accuracy",
            quality["held_out_accuracy"],
            "against the judge's own noisy labels",
        ),
        (
            "rank correlation with the true reward over all frames",
            quality["rank_correlation"],
            "high for useless rewards too: never the headline",
        ),
    ]
    table = "".join(
        f'<tr><td>{html.escape(name)}</td><td class="n">{_number(value)}</td>'
        f"<td>{html.escape(note)}</td></tr>"
        for name, value, note in rows
    )
    warning = "".join(f'<p class="warn">{html.escape(text)}</p>' for text in quality.get("warnings", ()))
    return (
        "<h2>What the judge's answers taught the reward model</h2><section>"
        f"<p>{html.escape(judge['summary'])}</p><table>{table}</table>{warning}</section>"
    )


def _curves(runs: Mapping[str, str]) -> str:
    series = {name: _metrics(Path(run) / "metrics.jsonl") for name, run in runs.items()}
    keys = sorted({key for rows in series.values() for row in rows for key in row if "loss" in key.lower()})
    if not keys:
        return ""
    figure = Figure(figsize=(9.2, 2.5 * ((len(keys) + 2) // 3)), layout="constrained")
    axes = figure.subplots((len(keys) + 2) // 3, 3, squeeze=False).ravel()
    for axis, key in zip(axes, keys, strict=False):
        for name, rows in series.items():
            points = [(row["step"], row[key]) for row in rows if key in row and row[key] is not None]
            if points:
                axis.plot(*zip(*points, strict=True), label=name, linewidth=1.1)
        axis.set_title(key, fontsize=9)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.25)
    for axis in axes[len(keys) :]:
        axis.axis("off")
    handles = {
        label: handle
        for axis in axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), fontsize=7, loc="outside lower center", ncols=4)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    picture = base64.b64encode(buffer.getvalue()).decode()
    return (
        "<h2>Training curves</h2><section>"
        f'<img alt="training curves" src="data:image/png;base64,{picture}"></section>'
    )


def _metrics(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def _stages(stages: Sequence[Mapping[str, Any]]) -> str:
    rows = "".join(
        f'<tr><td>{html.escape(stage["title"])}</td><td class="n">{stage["seconds"]:.1f} s</td>'
        f"<td>{'done by an earlier run' if stage['reused'] else ''}</td></tr>"
        for stage in stages
    )
    total = sum(stage["seconds"] for stage in stages)
    return (
        f"<h2>Time</h2><section><table>{rows}"
        f'<tr><th>all stages</th><td class="n">{total:.0f} s</td><td></td></tr></table></section>'
    )


def _provenance(figures: Mapping[str, Any]) -> str:
    machine = figures["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    settings = html.escape(json.dumps(figures["settings"], indent=1, default=str))
    return (
        f"<footer><p>{machine['cores']} cores, {html.escape(machine['processor'])}; renderer "
        f"{html.escape(str(machine['renderer']))}; {html.escape(versions)}; "
        f"armchair {html.escape(figures['armchair'])}. ONNX against PyTorch: largest difference "
        f"{figures['parity']['max_abs_difference']:.1e} over "
        f"{figures['parity']['samples']} real observations.</p>"
        f"<details><summary>every setting and seed</summary><pre>{settings}</pre></details></footer>"
    )


def _speed(ticks_per_s: float | None) -> str:
    return "" if ticks_per_s is None else f" at {ticks_per_s:.0f} ticks/s"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _data(path: Path, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(path.read_bytes()).decode()}"
