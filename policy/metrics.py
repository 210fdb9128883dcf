"""Where the figures of a run go: one JSON object per line, and TensorBoard for looking at them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from torch.utils.tensorboard import SummaryWriter

METRICS_FILE = "metrics.jsonl"


class MetricsLog:
    """Appends rows `{"step": int, name: float, …}` to `metrics.jsonl` and to TensorBoard event files.

    Rows after `resume_step` are dropped on opening: a killed run logged steps that it will do again, and a
    resumed run must leave the same log as one that was never stopped.
    """

    def __init__(self, folder: Path, *, resume_step: int = 0, tensorboard: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / METRICS_FILE
        kept = [row for row in read_metrics(path) if int(row["step"]) <= resume_step] if resume_step else []
        partial = path.with_name(path.name + ".partial")
        partial.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        os.replace(partial, path)
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115
        self._board = (
            SummaryWriter(str(folder / "tensorboard"), purge_step=resume_step + 1 if resume_step else None)
            if tensorboard
            else None
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Log `values` at `step`; the row is on its way to disk when this returns."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close both sinks."""
        self._file.close()
        if self._board is not None:
            self._board.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The rows of a `metrics.jsonl`, without a last line that a kill cut short; none for a missing file."""
    rows: list[dict[str, float]] = []
    if not path.is_file():
        return rows
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def latest_metrics(path: Path) -> dict[str, float]:
    """The newest value of every figure in a `metrics.jsonl`, and the `step` of its last row."""
    latest: dict[str, float] = {}
    for row in read_metrics(path):
        latest.update(row)
    return latest
