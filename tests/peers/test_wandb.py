"""The client of Weights & Biases, unmodified and offline, takes a run's figures.

Not covered: its service, which needs an account.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from bench.peers.environment import WANDB, peer_python

pytestmark = [pytest.mark.peers, pytest.mark.long, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[2]
LOGS = """
import pathlib, sys
from policy.metrics import MetricsLog
folder = pathlib.Path(sys.argv[1])
for start in (0, 1):
    with MetricsLog(folder, resume_step=start, tensorboard=False, wandb="armchair-test") as log:
        log.write(start + 1, {"train/q": 0.25 + start})
"""


def test_a_run_and_its_going_on_are_one_run_in_the_clients_files(tmp_path: Path) -> None:
    python = peer_python(ROOT / "runs" / "peers" / "wandb", WANDB)
    quiet = os.environ | {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [python, "-c", LOGS, tmp_path], env=quiet, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    known = (tmp_path / "wandb_run.txt").read_text().strip()
    files = sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert [file.name for file in files] == [f"run-{known}.wandb"] * 2
    for file, value in zip(files, (b"0.25", b"1.25"), strict=True):
        content = file.read_bytes()
        assert b"train/q" in content
        assert value in content
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
