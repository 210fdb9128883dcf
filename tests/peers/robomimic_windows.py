"""Runs in robomimic's own environment: writes windows of its SequenceDataset to a NumPy file.

Arguments: prepared file, picture stream, frames, out. All windows of the file, in its order.
"""

from __future__ import annotations

import sys
import warnings

warnings.filterwarnings("ignore")
import numpy as np  # noqa: E402
import robomimic.utils.obs_utils as ObsUtils  # noqa: E402
from robomimic.utils.dataset import SequenceDataset  # noqa: E402

path, stream, frames, out = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
ObsUtils.initialize_obs_utils_with_obs_specs({"obs": {"low_dim": [], "rgb": [stream]}})
dataset = SequenceDataset(
    hdf5_path=path,
    obs_keys=(stream,),
    dataset_keys=("actions", "rewards", "dones"),
    frame_stack=frames,
    seq_length=1,
    hdf5_cache_mode=None,
    load_next_obs=True,
)
items = [dataset[k] for k in range(len(dataset))]
np.savez(
    out,
    pictures=np.stack([item["obs"][stream] for item in items]),
    following=np.stack([item["next_obs"][stream] for item in items]),
    actions=np.stack([item["actions"] for item in items]),
    rewards=np.stack([item["rewards"] for item in items]),
)
