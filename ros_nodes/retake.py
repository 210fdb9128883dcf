"""Recording a simulated episode again that did not come to its end."""

from __future__ import annotations

import fcntl

from episodes.dataset import Dataset
from episodes.errors import DatasetError
from episodes.layout import PARTIAL
from episodes.writer import HORIZON, TERMINATED


def make_way(dataset: Dataset, episode_id: str) -> None:
    """Remove what an interrupted run left of a simulated episode, which (seed, episode) makes again as it
    was.

    Raises:
        DatasetError: the episode is there in full, or another process is recording it now.
    """
    if episode_id in dataset.ids():
        info = dataset.info(episode_id)
        if info.attrs["termination_reason"] in (HORIZON, TERMINATED):
            raise DatasetError(
                f"{info.path}: episode {episode_id!r} is there already, whole. Remove it to record it "
                "again, or choose other episodes."
            )
        info.path.unlink()
    for partial in dataset.partials():
        if partial.name.partition("_")[2] == episode_id + PARTIAL:
            with open(partial, "rb") as held:
                try:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    raise DatasetError(
                        f"{partial}: another process is recording this episode now: wait for it, or end it."
                    ) from error
                partial.unlink()
