"""Whatever is cut off a bag or flipped in it: data with a statement of what is missing, or a clear error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.writer import CompressionType

from .conftest import CONTRACT, Session, storage_file, write_bag
from .test_salvage import mcap_bytes

ROOT = Path(__file__).resolve().parents[2]
KINDS = {
    "rosbags-mcap": ".mcap",
    "sqlite": ".db3",
    "mcap-plain": ".mcap",
    "mcap-lz4": ".mcap",
    "mcap-zstd": ".mcap",
}


def originals(folder: Path) -> dict[str, bytes]:
    """The same session in every storage; the ones named mcap-… carry checksums."""
    return {
        "rosbags-mcap": storage_file(write_bag(folder / "m", Session())).read_bytes(),
        "sqlite": storage_file(write_bag(folder / "s", Session(), "sqlite3")).read_bytes(),
        "mcap-plain": mcap_bytes(CompressionType.NONE),
        "mcap-lz4": mcap_bytes(CompressionType.LZ4),
        "mcap-zstd": mcap_bytes(CompressionType.ZSTD),
    }


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut short, bytes flipped, a stretch lost or overwritten, one of them or two."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 3))):
        at = int(rng.integers(0, len(out)))
        match int(rng.integers(0, 5)):
            case 0:
                del out[max(1, at) :]
            case 1 | 2:
                for place in rng.integers(0, len(out), int(rng.integers(1, 9))).tolist():
                    out[place] ^= 1 << int(rng.integers(0, 8))
            case 3:
                del out[at : at + int(rng.integers(1, 9000))]
            case _:
                out[at : at + int(rng.integers(1, 9000))] = rng.bytes(min(len(out) - at, 64))
        if len(out) < 2:
            break
    return bytes(out)


def run(folder: Path, tmp_path: Path) -> dict[str, dict[str, Any]]:
    """What came of every bag of a folder."""
    contract = tmp_path / "arm3.yaml"
    contract.write_text(CONTRACT)
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("fuzzing.py")), str(folder), str(contract)],
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
    return {name["bag"]: result for name, result in zip(lines[::2], lines[1::2], strict=True)}


def fuzz(count: int, seed: int, tmp_path: Path) -> None:
    whole = originals(tmp_path)
    reference, folder = tmp_path / "whole", tmp_path / "damaged"
    reference.mkdir()
    folder.mkdir()
    for kind, data in whole.items():
        (reference / f"{kind}{KINDS[kind]}").write_bytes(data)
    for number in range(count):
        kind = list(KINDS)[number % len(KINDS)]
        rng = np.random.default_rng([seed, number])
        (folder / f"{kind}_{number:04d}{KINDS[kind]}").write_bytes(damaged(whole[kind], rng))
    expected = {name.split(".")[0]: result for name, result in run(reference, tmp_path).items()}
    assert all(result["missing"] == [] for result in expected.values())
    outcomes = {"error": 0, "data": 0}
    for name, result in run(folder, tmp_path).items():
        kind = name.split("_")[0]
        if "error" in result:
            outcomes["error"] += 1
            assert name.split(".")[0] in result["error"], f"{name}: the error does not name the bag: {result}"
            assert len(result["error"]) > 60, f"{name}: this says too little: {result}"
            continue
        outcomes["data"] += 1
        if result["missing"]:
            continue
        assert result["samples"] == expected[kind]["samples"], f"{name}: samples are missing in silence"
        if kind.startswith("mcap-"):
            assert result["values"] == expected[kind]["values"], f"{name}: values differ in silence"
    assert outcomes["data"] >= count / 3, f"too little is salvaged: {outcomes}"


def test_twenty_damaged_bags_give_data_with_a_statement_or_a_clear_error(tmp_path: Path) -> None:
    fuzz(20, 1, tmp_path)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(5))
def test_five_hundred_damaged_bags(seed: int, tmp_path: Path) -> None:
    fuzz(100, 100 + seed, tmp_path)
