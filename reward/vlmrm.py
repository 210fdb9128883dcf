"""vlmrm's configuration file, for its reward part.

A file that vlmrm takes is taken as it stands, and so is one that only vlmrm's own validator refuses, such as
the example of its README: those rules keep its batches full and its loggers in step, and nothing here needs
them. What is relaxed is said, with the nearest value that vlmrm would take. What cannot mean anything (an
alpha of 1.5) is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from episodes.errors import ConfigError, did_you_mean

SECTIONS = ("env_name", "base_path", "seed", "description", "tags", "reward", "rl", "logging")
REWARD_KEYS = (
    "name",
    "pretrained_model",
    "batch_size",
    "alpha",
    "target_prompts",
    "baseline_prompts",
    "cache_dir",
    "camera_config",
    "textured",
)


@dataclass(frozen=True)
class VlmrmReward:
    """The reward part of a file."""

    model: str
    """ARCH/TAG of open_clip."""
    batch: int
    """Pictures at once, over all devices together."""
    alpha: float
    targets: tuple[str, ...]
    baselines: tuple[str, ...]
    cache_dir: Path | None
    """Where the file's author kept downloaded weights."""
    relaxed: tuple[str, ...]
    """What vlmrm would refuse or do and armchair does not, a sentence each."""


def read_vlmrm(path: Path, *, workers: int) -> VlmrmReward:
    """Read the reward part of a configuration file of vlmrm.

    Args:
        path: the YAML file.
        workers: devices that share the work; vlmrm's rules depend on it.

    Raises:
        ConfigError: no such file, no YAML, a reward that is not CLIP's, or a value that cannot work.
    """
    found = _mapping(path, _load(path), "the file")
    _only(path, found, SECTIONS, "")
    reward = _mapping(path, found.get("reward"), "reward")
    _only(path, reward, REWARD_KEYS, "reward.")
    name = reward.get("name", "clip")
    if name == "ground_truth":
        raise ConfigError(f"{path}: reward.name is ground_truth: that is armchair relabel --kind truth.")
    if name != "clip":
        raise ConfigError(
            f"{path}: reward.name {name!r}; {did_you_mean(str(name), ['clip', 'ground_truth'])}"
        )
    model = reward.get("pretrained_model")
    if not isinstance(model, str) or not all(model.partition("/")):
        raise ConfigError(
            f"{path}: reward.pretrained_model {model!r}: write ARCH/TAG of open_clip, such as "
            "ViT-g-14/laion2b_s34b_b88k."
        )
    relaxed: list[str] = []
    targets = _prompts(path, reward, "target_prompts", relaxed)
    baselines = _prompts(path, reward, "baseline_prompts", relaxed)
    alpha = _alpha(path, reward.get("alpha"))
    if not targets:
        raise ConfigError(f"{path}: reward.target_prompts is missing or empty: describe the goal.")
    if alpha > 0 and not baselines:
        raise ConfigError(
            f"{path}: reward.baseline_prompts is missing or empty, and reward.alpha is {alpha:g}: describe "
            f"the "
            "scene without the goal, or write alpha 0."
        )
    if len(targets) != len(baselines):
        relaxed.append(
            f"reward: {len(targets)} target_prompts and {len(baselines)} baseline_prompts, where vlmrm wants "
            f"as "
            "many of each; each kind is averaged by itself, so any number will do."
        )
    batch = _count(path, "reward.batch_size", reward.get("batch_size", 64))
    if "batch_size" not in reward:
        relaxed.append("reward.batch_size is missing; 64 is taken.")
    if reward.get("camera_config") is not None:
        relaxed.append(
            "reward.camera_config is left out: frames are recorded already, by the contract's camera."
        )
    if reward.get("textured") is False:
        relaxed.append("reward.textured is left out: frames are recorded already.")
    relaxed += _training(path, found, batch, workers)
    return VlmrmReward(
        model=model,
        batch=batch,
        alpha=alpha,
        targets=targets,
        baselines=baselines,
        cache_dir=Path(str(reward["cache_dir"])) if reward.get("cache_dir") else None,
        relaxed=tuple(f"{path}: {line}" for line in relaxed),
    )


def _load(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"clip.vlmrm {path}: cannot be read ({error.strerror}).") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        shown = " ".join(str(error).split())
        raise ConfigError(f"clip.vlmrm {path}: is no YAML ({shown}). Give the file, not its text.") from error


def _mapping(path: Path, found: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: {what} must be a mapping of keys to values, and is {found!r:.80}.")
    return found


def _only(path: Path, found: Mapping[str, Any], known: tuple[str, ...], prefix: str) -> None:
    for key in found:
        if key not in known:
            raise ConfigError(
                f"{path}: {prefix}{key}: vlmrm has no such key; {did_you_mean(str(key), known)}"
            )


def _prompts(path: Path, reward: Mapping[str, Any], key: str, relaxed: list[str]) -> tuple[str, ...]:
    found = reward.get(key)
    if found is None:
        return ()
    if isinstance(found, str):
        relaxed.append(f"reward.{key} is one text, where vlmrm wants a list; it is taken as a list of one.")
        found = [found]
    if not isinstance(found, list) or not all(isinstance(text, str) and text.strip() for text in found):
        raise ConfigError(f"{path}: reward.{key} {found!r:.80}: write a list of texts, one prompt a line.")
    return tuple(found)


def _alpha(path: Path, found: Any) -> float:
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise ConfigError(f"{path}: reward.alpha {found!r}: write a number from 0 to 1, such as 0.5.")
    if not 0 <= found <= 1:
        nearest = 1 if found > 1 else 0
        raise ConfigError(f"{path}: reward.alpha {found:g}: must be from 0 to 1; the nearest is {nearest}.")
    return float(found)


def _count(path: Path, key: str, found: Any) -> int:
    """A count of 1 or more; of a number that is none, the error names the nearest."""
    if isinstance(found, bool) or not isinstance(found, int | float) or found != found:
        raise ConfigError(f"{path}: {key} {found!r}: write a whole number, 1 or more.")
    if found < 1 or found != int(found):
        raise ConfigError(
            f"{path}: {key} {found:g}: the nearest whole number that works is {max(1, round(found))}."
        )
    return int(found)


def _training(path: Path, found: Mapping[str, Any], batch: int, workers: int) -> list[str]:
    """Rules of vlmrm's validator that this file breaks, for `workers` GPUs."""
    rl = found.get("rl") or {}
    logging = found.get("logging") or {}
    _mapping(path, rl, "rl")
    _mapping(path, logging, "logging")
    out = []
    if logging.get("tensorboard_freq") is not None:
        out.append(
            "logging.tensorboard_freq is left out: vlmrm refuses it beside a CLIP reward (remove it there), "
            "and "
            "relabelling logs nothing."
        )
    if batch % workers:
        out.append(
            f"reward.batch_size {batch}: vlmrm wants a multiple of its {workers} GPUs (nearest: "
            f"{nearest_multiple(batch, workers)}); batches need not be equal here, so {batch} stands."
        )
    numbers = {
        key: int(value)
        for section in (rl, logging)
        for key, value in section.items()
        if isinstance(value, int) and not isinstance(value, bool) and value > 0
    }
    per_worker, length = numbers.get("n_envs_per_worker"), numbers.get("episode_length")
    envs = None if per_worker is None else per_worker * workers
    if envs and length and (envs * length) % batch:
        out.append(
            f"reward.batch_size {batch}: with {workers} GPU{'s' * (workers > 1)} vlmrm wants a divisor of "
            f"n_envs · "
            f"episode_length = {envs} · {length} = {envs * length} (nearest: "
            f"{nearest_divisor(batch, envs * length)}); the last batch may be short here, so {batch} stands."
        )
    train, steps = numbers.get("train_freq"), numbers.get("n_steps")
    for key, value, other, step in (
        ("rl.train_freq", train, "rl.episode_length", length),
        ("logging.checkpoint_freq", numbers.get("checkpoint_freq"), "rl.train_freq", train),
        ("logging.checkpoint_freq", numbers.get("checkpoint_freq"), "n_envs", envs),
        ("logging.video_freq", numbers.get("video_freq"), "n_envs", envs),
    ):
        if value and step and value % step:
            out.append(
                f"{key} {value}: vlmrm wants a multiple of {other} = {step} (nearest: "
                f"{nearest_multiple(value, step)}); it does not touch the reward and is left out."
            )
    if train and steps and train > steps:
        out.append(
            f"rl.train_freq {train}: vlmrm wants at most rl.n_steps = {steps} (nearest: {steps}); it does "
            f"not "
            "touch the reward and is left out."
        )
    return out


def nearest_multiple(value: int, step: int) -> int:
    """The multiple of `step`, at least `step`, that is nearest to `value`; the smaller of two."""
    below = max(value // step * step, step)
    return below if value - below <= below + step - value else below + step


def nearest_divisor(value: int, total: int) -> int:
    """The divisor of `total` that is nearest to `value`; the smaller of two."""
    small = [k for k in range(1, int(total**0.5) + 1) if total % k == 0]
    return min(sorted({*small, *(total // k for k in small)}), key=lambda k: (abs(k - value), k))
