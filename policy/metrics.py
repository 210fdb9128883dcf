"""Where the figures of a run go: one JSON object per line; TensorBoard and Weights & Biases show them."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch.utils.tensorboard import SummaryWriter

from episodes.errors import ConfigError

METRICS_FILE = "metrics.jsonl"
WANDB_FILE = "wandb_run.txt"
"""The id under which Weights & Biases knows the run, so that a run that goes on goes on there too."""


class MetricsLog:
    """Appends rows `{"step": int, name: float, …}` to `metrics.jsonl`, to TensorBoard event files, and to a
    project at Weights & Biases where one is named.

    Rows after `resume_step` are dropped on opening: a killed run logged steps that it will do again, and a
    resumed run must leave the same log as one that was never stopped.
    """

    def __init__(
        self, folder: Path, *, resume_step: int = 0, tensorboard: bool = True, wandb: str = ""
    ) -> None:
        """Open the log of the run in `folder`; `wandb` is a project.

        Raises:
            ConfigError: a project is named and the package is not installed, or refuses it.
        """
        self._run = _wandb_run(folder, wandb) if wandb else None
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
        if self._run is not None:
            # As a figure: the service drops what comes with a step that it has passed, which a resumed run
            # logs again.
            self._run.log({"step": step, **values})

    def close(self) -> None:
        """Flush and close all sinks."""
        self._file.close()
        if self._board is not None:
            self._board.close()
        if self._run is not None:
            self._run.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _wandb_run(folder: Path, project: str) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise ConfigError(
            f"--wandb {project}: the package is missing; pip install 'armchair[wandb]', or leave it out."
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    known, settings = folder / WANDB_FILE, folder / "config.json"
    if not known.is_file():
        known.write_text(secrets.token_hex(8) + "\n", encoding="utf-8")
    try:
        run = wandb.init(
            project=project,
            id=known.read_text(encoding="utf-8").strip(),
            name=folder.resolve().name,
            resume="allow",
            dir=str(folder),
            config=json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else None,
        )
    except (wandb.errors.Error, OSError) as error:
        raise ConfigError(
            f"--wandb {project}: {error!s:.300}. `wandb login` once, or set WANDB_MODE=offline."
        ) from error
    run.define_metric("*", step_metric="step")
    return run


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
