"""Whatever is cut off or flipped in an episode file: data or a clear error; recovery says what is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut short, bytes flipped, a stretch lost or overwritten."""
    out = bytearray(data)
    at = int(rng.integers(0, len(out)))
    match int(rng.integers(0, 5)):
        case 0:
            del out[max(1, at) :]
        case 1 | 2:
            for place in rng.integers(0, len(out), int(rng.integers(1, 9))).tolist():
                out[place] ^= 1 << int(rng.integers(0, 8))
        case 3:
            del out[at : at + int(rng.integers(1, 4000))]
        case _:
            out[at : at + int(rng.integers(1, 4000))] = rng.bytes(min(len(out) - at, 64))
    return bytes(out)


def run(folder: Path) -> dict[str, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("fuzzing.py")), str(folder)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=3000,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    last = lines[-1] if lines else None
    assert done.returncode == 0, f"after {last}: exit {done.returncode}\n{done.stderr[-3000:]}"
    return {name["file"]: result for name, result in zip(lines[::2], lines[1::2], strict=True)}


def fuzz(count: int, seed: int, tmp_path: Path, record: Callable[..., Path]) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "damaged"
    whole.mkdir()
    folder.mkdir()
    originals = {}
    for storage in ("lzf", "raw", "jpeg"):
        path = record(storage, steps=40, image_storage=storage)
        originals[storage] = path.read_bytes()
        path.rename(whole / path.name)
    for number in range(count):
        storage = ("lzf", "raw", "jpeg")[number % 3]
        data = damaged(originals[storage], np.random.default_rng([seed, number]))
        (folder / f"20260101T000000Z_{storage}-{number:04d}.h5").write_bytes(data)
    expected = {name.split("_")[1][:-3]: result["read"]["samples"] for name, result in run(whole).items()}
    for name, result in run(folder).items():
        samples = expected[name.split("_")[1].split("-")[0]]
        found = result["read"]
        if "error" not in found:
            rest = {key: value for key, value in found["samples"].items() if key != "aligned"}
            assert rest == {k: v for k, v in samples.items() if k != "aligned"}, f"{name}: silence"
            continue
        assert name in found["error"], f"{name}: the error does not name the file: {found}"
        saved = result["recovered"]
        if "error" in saved:
            assert name.removesuffix(".h5") in saved["error"], f"{name}: {saved}"
            assert len(saved["error"]) > 60, f"{name}: this says too little: {saved}"
            continue
        assert saved["outcome"] != "success", f"{name}: a recovered file claims success"
        assert "lost" in saved["told"], f"{name}: nothing is said of what is lost: {saved}"


def test_twenty_damaged_episodes_are_read_recovered_or_refused_by_name(
    tmp_path: Path, record: Callable[..., Path]
) -> None:
    fuzz(20, 1, tmp_path, record)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(5))
def test_five_hundred_damaged_episodes(seed: int, tmp_path: Path, record: Callable[..., Path]) -> None:
    fuzz(100, 100 + seed, tmp_path, record)
