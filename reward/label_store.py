"""The verbs `label status`, `cost`, `prices`, `export` and `import`: labels and their price from outside."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from episodes.dataset import Dataset, usable
from episodes.errors import LabelError
from reward.ballots import TaskReport, task_reports
from reward.clients.prices import checked, models, price_of, today
from reward.clients.protocol import Kind
from reward.clients.vlm import Method, estimated_usd
from reward.exchange import export_labels, import_labels
from reward.prompting import load_prompt
from reward.store import FILE, LabelStore

METHODS: tuple[Method, ...] = ("two-stage", "single")
SHOWN_LETTERS = 200
SHOWN_EXAMPLES = 3


@dataclass(frozen=True)
class StatusConfig:
    """What was asked, what was answered, what is open, and how the judges fare."""

    dataset: tyro.conf.Positional[Path]
    """The dataset folder."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class CostConfig:
    """What the answers took: calls, tokens and money by judge."""

    dataset: tyro.conf.Positional[Path]
    """The dataset folder."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class ExportConfig:
    """Write all answers and draws as JSON lines."""

    dataset: tyro.conf.Positional[Path]
    """The dataset folder."""
    out: tyro.conf.Positional[Path]
    """The file."""


@dataclass(frozen=True)
class ImportConfig:
    """Add the answers and draws of an export, or of another label store, that are not there yet."""

    dataset: tyro.conf.Positional[Path]
    """The dataset folder."""
    source: tyro.conf.Positional[Path]
    """An export, or a labels.sqlite."""


@dataclass(frozen=True)
class PricesConfig:
    """What 1,000 questions cost with every model of the price list."""

    width: int = 336
    """Pixels of a picture as it is sent; smaller frames are enlarged to 336."""
    height: int = 336
    """Pixels of a picture as it is sent."""


@dataclass(frozen=True)
class SetStatus:
    """Where one label set stands."""

    labels: str
    pairs: int
    questions: int
    answered: int
    in_flight: int
    """Questions that a running process waits for."""
    in_doubt: int
    """Questions of a process that was killed."""
    failed: int
    """Open questions that found no answer so far."""
    reports: tuple[TaskReport, ...]
    failures: tuple[str, ...]
    """Why some of the failed ones did."""
    malformed: tuple[str, ...]
    """Beginnings of some answers that could not be read."""

    @property
    def open(self) -> int:
        """Questions that the same command would ask."""
        return self.questions - self.answered - self.in_flight - self.in_doubt


def status_of(store: LabelStore, tasks: dict[str, str]) -> tuple[SetStatus, ...]:
    """Where every label set of a store stands; `tasks` by episode id."""
    found = []
    for labels in store.names():
        pairs = store.drawn(labels)
        keys = {ballot.key for pair in pairs for ballot in pair.ballots}
        outcomes = store.outcomes(keys)
        failed = store.parked(keys)
        unread = [key for key, outcome in sorted(outcomes.items()) if outcome == "malformed"]
        texts = [verdict.text for key in unread[:SHOWN_EXAMPLES] if (verdict := store.verdict(key))]
        found.append(
            SetStatus(
                labels=labels,
                pairs=len(pairs),
                questions=len(keys),
                answered=len(outcomes),
                in_flight=len(store.in_flight(keys)),
                in_doubt=len(store.in_doubt(keys)),
                failed=len(failed),
                reports=task_reports(pairs, tasks, outcomes),
                failures=tuple(" ".join(text.split()) for text in [*failed.values()][:SHOWN_EXAMPLES]),
                malformed=tuple(" ".join(text.split())[:SHOWN_LETTERS] for text in texts),
            )
        )
    return tuple(found)


@dataclass(frozen=True)
class JudgeCost:
    """What one judge took."""

    judge: str
    answers: int
    calls: int
    input_tokens: int
    output_tokens: int
    cost_usd: float
    reserved_usd: float
    """Estimate of what is in flight or in doubt, and what half-asked questions took; contained in
    cost_usd."""
    unanswered_usd: float
    """Of requests that did not lead to an answer; contained in cost_usd."""

    @property
    def usd_per_thousand(self) -> float:
        """Price of 1,000 answers so far."""
        return 1000 * self.cost_usd / self.answers if self.answers else 0.0


def costs_of(store: LabelStore) -> tuple[JudgeCost, ...]:
    """What every judge took, by name."""
    rows = store.rows(
        "SELECT judge, SUM(answers), SUM(calls), SUM(input), SUM(output), SUM(usd), SUM(reserved), "
        "SUM(lost) FROM (SELECT judge, state='answered' AS answers, calls, input_tokens AS input, "
        "output_tokens AS output, cost_usd AS usd, CASE state WHEN 'reserved' THEN cost_usd ELSE 0 END AS "
        "reserved, 0 AS lost FROM answers UNION ALL SELECT judge, 0, calls, input_tokens, output_tokens, "
        "cost_usd, 0, cost_usd FROM charges) GROUP BY judge ORDER BY judge"
    )
    return tuple(JudgeCost(*row) for row in rows)


def status(config: StatusConfig) -> int:
    """Print where the label sets stand."""
    console = Console()
    dataset = Dataset.open(config.dataset)
    tasks = {info.episode_id: str(info.attrs.get("task", "")) for info in usable(dataset)}
    with LabelStore(_existing(dataset)) as store:
        found = status_of(store, tasks)
    if config.json:
        print(json.dumps([asdict(each) | {"open": each.open} for each in found]))
        return 0
    table = Table("label set", "pairs", "questions", "answered", "open", "in flight", "in doubt", "failed")
    for each in found:
        open_ones = (each.open, each.in_flight, each.in_doubt, each.failed)
        counts = (each.pairs, each.questions, each.answered, *open_ones)
        table.add_row(each.labels, *map(str, counts))
    console.print(table)
    for each in found:
        rates = Table(
            "task", "answers", "−1", "malformed", "swap disagrees", "first named", title=each.labels
        )
        for report in each.reports:
            shown = (report.unsure_rate, report.malformed_rate, report.swap_disagreement, report.first_share)
            rates.add_row(
                report.task, str(report.answers), *("" if rate is None else f"{rate:.1%}" for rate in shown)
            )
        console.print(rates)
        for text in each.failures:
            console.print(f"failed: {text}", soft_wrap=True, markup=False)
        for text in each.malformed:
            console.print(f"malformed: {text!r}", soft_wrap=True, markup=False)
        for report in each.reports:
            for advice in report.advice:
                console.print(f"[yellow]{advice}[/]", soft_wrap=True)
    return 0


def cost(config: CostConfig) -> int:
    """Print what the answers took."""
    console = Console()
    with LabelStore(_existing(Dataset.open(config.dataset))) as store:
        found = costs_of(store)
    if config.json:
        print(json.dumps([asdict(each) for each in found]))
        return 0
    table = Table(
        "judge", "answers", "calls", "tokens in", "tokens out", "USD", "reserved", "lost", "USD per 1,000"
    )
    table.columns[0].no_wrap = True
    for each in found:
        table.add_row(
            *(
                each.judge,
                str(each.answers),
                str(each.calls),
                str(each.input_tokens),
                str(each.output_tokens),
            ),
            *(f"{usd:.2f}" for usd in (each.cost_usd, each.reserved_usd, each.unanswered_usd)),
            f"{each.usd_per_thousand:.2f}",
        )
    console.print(table)
    unknown = [each.judge for each in found if each.calls and not price_of(each.judge, today()).known]
    console.print(f"prices as of {checked()}, reward/clients/prices.yaml", soft_wrap=True)
    if unknown:
        console.print(f"not in that file: {', '.join(unknown)}", soft_wrap=True)
    return 0


def price_table(day: date, size: tuple[int, int]) -> str:
    """The price of 1,000 questions in US dollars by model, in Markdown; pictures of `size` (width,
    height)."""
    asked = [(kind, method) for kind in (Kind.PREFERENCE, Kind.SCORE) for method in METHODS]
    lines = ["| model | " + " | ".join(f"{kind.value}, {method}" for kind, method in asked) + " |"]
    lines.append("|" + "---|" * (1 + len(asked)))
    for model in models():
        price = price_of(model, day)
        cells = (
            1000 * sum(estimated_usd(price, price, load_prompt(kind), method, [size] * kind.pictures))
            for kind, method in asked
        )
        lines.append(f"| {model} | " + " | ".join(f"{usd:.2f}" for usd in cells) + " |")
    return "\n".join(lines)


def prices(config: PricesConfig) -> int:
    """Print the price of 1,000 questions as a table in Markdown."""
    size = (config.width, config.height)
    print(price_table(today(), size))
    print(f"\nUS dollars per 1,000; prices as of {checked()}; pictures of {size[0]}×{size[1]} pixels")
    return 0


def export(config: ExportConfig) -> int:
    """Write the labels to a file."""
    with LabelStore(_existing(Dataset.open(config.dataset))) as store:
        count = export_labels(store, config.out)
    print(f"{count} answers -> {config.out}")
    return 0


def bring_in(config: ImportConfig) -> int:
    """Add the labels of a file."""
    dataset = Dataset.open(config.dataset)
    with LabelStore(dataset.path / FILE) as store:
        done = import_labels(store, config.source)
    print(f"{done.answers} answers and {done.draws} draws added; {done.known} answers were there already")
    return 0


def _existing(dataset: Dataset) -> Path:
    path = dataset.path / FILE
    if not path.is_file():
        raise LabelError(f"{dataset.path}: nothing was labelled yet: armchair label {dataset.path}")
    return path
