"""Runs in robomimic's own environment: reads windows with its SequenceDataset, as often as it is asked to.

Arguments: file, picture stream, frames, batch size. Then, for each line `MODE SECONDS` on standard input, one
line of JSON with windows per second. MODE is one of robomimic's hdf5_cache_modes: none, low_dim, all. Batches
come as its own training gets them: from a torch DataLoader, shuffled, in this process.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
import warnings

warnings.filterwarnings("ignore")
with contextlib.redirect_stdout(io.StringIO()):
    import robomimic.utils.obs_utils as ObsUtils
    import torch
    from robomimic.utils.dataset import SequenceDataset
    from torch.utils.data import DataLoader


def loader(path: str, stream: str, frames: int, batch: int, mode: str) -> DataLoader:
    """robomimic's dataset and DataLoader as its train script makes them."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        dataset = SequenceDataset(
            hdf5_path=path,
            obs_keys=(stream,),
            dataset_keys=("actions",),
            frame_stack=frames,
            seq_length=1,
            hdf5_cache_mode=None if mode == "none" else mode,
            load_next_obs=False,
        )
    return DataLoader(dataset, batch_size=batch, shuffle=True, num_workers=0, drop_last=True)


def main() -> None:
    """Answer until standard input ends."""
    path, stream, frames, batch = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(1)
    with contextlib.redirect_stdout(io.StringIO()):
        ObsUtils.initialize_obs_utils_with_obs_specs({"obs": {"low_dim": [], "rgb": [stream]}})
    loaders: dict[str, DataLoader] = {}
    for line in sys.stdin:
        mode, seconds = line.split()
        if mode not in loaders:
            loaders[mode] = loader(path, stream, frames, batch, mode)
        windows, end = 0, time.perf_counter() + float(seconds)
        start = time.perf_counter()
        while time.perf_counter() < end:
            for sample in loaders[mode]:
                windows += len(sample["actions"])
                if time.perf_counter() >= end:
                    break
        rate = windows / (time.perf_counter() - start)
        shape = list(sample["obs"][stream].shape)
        print(json.dumps({"mode": mode, "windows_per_s": rate, "shape": shape}), flush=True)


if __name__ == "__main__":
    main()
