"""Imports damaged bags in a process of its own and says what came of each, one line of JSON per bag.

Run as `python fuzzing.py FOLDER CONTRACT`: a crash of the interpreter, or of a library, ends this process
alone.
"""

from __future__ import annotations

import faulthandler
import json
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

from episodes.align import align_episode
from episodes.bags.importer import import_bag
from episodes.contract import load_contract
from episodes.dataset import Dataset
from episodes.errors import ArmchairError
from episodes.reader import Episode


def judge(bag: Path, contract: Path) -> dict[str, object]:
    """Samples per stream and the values' sums, what was told, or the error."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            made = import_bag(bag, Dataset.create(folder, load_contract(contract)))
        except ArmchairError as error:
            return {"error": str(error)}
        samples: dict[str, int] = {}
        values: dict[str, float] = {}
        for path in made.episodes:
            with Episode.open(path) as episode:
                for name, stream in episode.streams.items():
                    samples[name] = samples.get(name, 0) + len(stream)
                    with np.errstate(all="ignore"):
                        total = float(np.nansum(stream.read().astype(np.float64)))
                    values[name] = values.get(name, 0.0) + total
                commands = episode.commands
                samples["commands"] = samples.get("commands", 0) + (0 if commands is None else len(commands))
                try:
                    align_episode(episode)
                except ArmchairError as error:
                    samples["does not align"] = len(str(error))
        return {"samples": samples, "values": values, "missing": list(made.missing)}


def main(folder: Path, contract: Path) -> None:
    """Judge every file of a folder; the name comes first, so that a crash can be told from its bag."""
    faulthandler.enable()
    warnings.simplefilter("error")
    for bag in sorted(folder.iterdir()):
        print(json.dumps({"bag": bag.name}), flush=True)
        print(json.dumps(judge(bag, contract)), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
