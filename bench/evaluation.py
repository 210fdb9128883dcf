"""Success of several bundles on the same unseen goals, in process, several at a time."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any


def evaluate_legs(
    bundles: Mapping[str, Path],
    contract: Path,
    *,
    seed: int,
    goals: int,
    horizon: int,
    workers: int,
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Evaluate each bundle on evaluation goals 0 to `goals` - 1 of `seed`.

    Returns:
        {"summary": {leg: Summary as a dict}, "results": {leg: [EpisodeResult as a dict, in goal order]}}.
    """
    results: dict[str, list[dict[str, Any]]] = {}
    summaries: dict[str, dict[str, Any]] = {}
    context = multiprocessing.get_context("spawn")
    progress(0, len(bundles))
    with ProcessPoolExecutor(min(workers, len(bundles)), mp_context=context) as pool:
        waiting = {
            pool.submit(_evaluate, str(bundle), str(contract), seed, goals, horizon): name
            for name, bundle in bundles.items()
        }
        for done, future in enumerate(as_completed(waiting), start=1):
            name = waiting[future]
            results[name], summaries[name] = future.result()
            progress(done, len(bundles))
    return {"summary": summaries, "results": results}


def _evaluate(
    bundle: str, contract: str, seed: int, goals: int, horizon: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    from sim.rollout import RolloutConfig, rollout

    config = RolloutConfig(
        bundle=Path(bundle), contract=Path(contract), episodes=goals, seed=seed, horizon=horizon
    )
    results, summary = rollout(config)
    return [asdict(result) for result in results], summary.as_dict()
