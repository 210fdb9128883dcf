"""Prompts and goal phrases: versioned files in `reward/prompts/`."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

import yaml

from episodes.errors import ConfigError, did_you_mean

FOLDER = Path(__file__).resolve().parent / "prompts"
GOALS = FOLDER / "goals.yaml"


@dataclass(frozen=True)
class ImagePrompt:
    """Text around two pictures."""

    before_first: str
    before_second: str
    after: str


@dataclass(frozen=True)
class PreferencePrompt:
    """A preference question in words; `{goal}` and `{description}` are filled in when it is asked."""

    version: str
    """File name and the first digits of the content's hash."""
    describe: ImagePrompt
    """First stage: describe and compare."""
    decide: str
    """Second stage: decide from the description alone."""
    single: ImagePrompt
    """Both in one question."""


@functools.cache
def preference_prompt(name: str = "preference-1") -> PreferencePrompt:
    """The prompt file `name`.

    Raises:
        ConfigError: no such file, or not a preference prompt.
    """
    path = FOLDER / f"{name}.yaml"
    known = [p.stem for p in FOLDER.glob("preference-*.yaml")]
    if name not in known:
        raise ConfigError(f"prompt {name!r}: there is no {path}; {did_you_mean(name, known)}")
    content = path.read_bytes()
    try:
        found = yaml.safe_load(content)
        describe, single = (ImagePrompt(**found[key]) for key in ("describe", "single"))
        decide = str(found["decide"])
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path}: not a preference prompt ({error}); write it like preference-1.yaml."
        ) from error
    return PreferencePrompt(f"{name}@{hashlib.sha256(content).hexdigest()[:12]}", describe, decide, single)


def goal_phrases() -> dict[str, str]:
    """Goal phrase by task."""
    return {str(task): str(phrase) for task, phrase in yaml.safe_load(GOALS.read_bytes()).items()}


def goal_phrase(task: str) -> str:
    """The goal phrase of a task, by its environment name or the last part of it.

    Raises:
        ConfigError: none is known.
    """
    phrases = goal_phrases()
    short = {name.rpartition("/")[2]: phrase for name, phrase in phrases.items()}
    found = phrases.get(task) or short.get(task)
    if found is None:
        raise ConfigError(
            f"no goal phrase is known for task {task!r}: say the goal yourself, --goal 'to open the drawer'. "
            f"{did_you_mean(task, phrases)}"
        )
    return found
