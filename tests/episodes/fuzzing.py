"""Reads and recovers damaged episode files in a process of its own, one line of JSON per file.

Run as `python fuzzing.py FOLDER`: a crash of the interpreter, or of HDF5, ends this process alone.
"""

from __future__ import annotations

import faulthandler
import json
import sys
import warnings
from pathlib import Path

from episodes.align import align_episode
from episodes.errors import ArmchairError
from episodes.reader import Episode
from episodes.recover import recover


def read(path: Path) -> dict[str, object]:
    """Samples per stream of an episode that is read whole, or the error."""
    try:
        with Episode.open(path) as episode:
            samples = {name: sum(len(block) for block in s.blocks()) for name, s in episode.streams.items()}
            samples["stamps"] = sum(len(s.stamp_ns) + len(s.recv_ns) for s in episode.streams.values())
            samples["commands"] = 0 if episode.commands is None else len(episode.commands)
            samples["events"] = len(episode.events)
            told = str(episode.attrs["recovery"])
            outcome = str(episode.attrs["outcome"])
            _ = episode.contract
    except ArmchairError as error:
        return {"error": str(error)}
    try:
        with Episode.open(path) as episode:
            samples["aligned"] = len(align_episode(episode))
    except ArmchairError as error:
        told += f" It does not align: {error}"
    return {"samples": samples, "told": told, "outcome": outcome}


def judge(path: Path) -> dict[str, object]:
    """What reading gives and, where it fails, what recovery makes of the file."""
    result: dict[str, object] = {"read": read(path)}
    if "error" in result["read"]:  # type: ignore[operator]
        try:
            result["recovered"] = read(recover(path))
        except ArmchairError as error:
            result["recovered"] = {"error": str(error)}
    return result


def main(folder: Path) -> None:
    """Judge every file; the name comes first, so that a crash can be told from its file."""
    faulthandler.enable()
    warnings.simplefilter("error")
    for path in sorted(folder.iterdir()):
        print(json.dumps({"file": path.name}), flush=True)
        print(json.dumps(judge(path)), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
