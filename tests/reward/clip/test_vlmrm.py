"""vlmrm's files are taken as they stand; what is relaxed is said with the nearest value that vlmrm takes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from episodes.errors import ConfigError
from reward.vlmrm import nearest_divisor, nearest_multiple, read_vlmrm

README_EXAMPLE = """
env_name: Humanoid-v4 # RL environment name
base_path: /data/runs/training # Base path to save logs and checkpoints
seed: 42 # Seed for reproducibility
description: Humanoid training using CLIP reward
tags: # Wandb tags
  - training
  - humanoid
  - CLIP
reward:
  name: clip
  pretrained_model: ViT-g-14/laion2b_s34b_b88k # CLIP model name
  batch_size: 1600
  alpha: 0.5 # Alpha value of Baseline CLIP (CO-RELATE)
  target_prompts: # Description of the goal state
    - a humanoid robot kneeling
  baseline_prompts: # Description of the environment
    - a humanoid robot
  cache_dir: /root/.cache
rl:
  policy_name: MlpPolicy
  n_steps: 100000 # Total number of simulation steps to be collected.
  n_envs_per_worker: 2 # Number of environments per worker (GPU)
  episode_length: 200 # Desired episode length
  learning_starts: 100 # Number of env steps to collect before training
  train_freq: 200 # Number of collected env steps between training iterations
  batch_size: 64 # SAC buffer sample size per gradient step
  gradient_steps: 1 # Number of samples to collect from the buffer per training step
  tau: 0.005 # SAC target network update rate
  gamma: 0.99 # SAC discount factor
  learning_rate: 3e-4 # SAC optimizer learning rate
logging:
  checkpoint_freq: 800 # Number of env steps between checkpoints
  video_freq: 800 # Number of env steps between videos
  tensorboard_freq: 800 # Number of env steps between tensorboard logs
"""


def changed(tmp_path: Path, **reward: Any) -> Path:
    """The example with other values under `reward`; None removes a key."""
    found = yaml.safe_load(README_EXAMPLE)
    found["reward"] |= reward
    found["reward"] = {key: value for key, value in found["reward"].items() if value is not None}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(found))
    return path


def test_the_example_of_vlmrms_readme_is_taken_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(README_EXAMPLE)
    found = read_vlmrm(path, workers=1)
    assert found.model == "ViT-g-14/laion2b_s34b_b88k"
    assert (found.batch, found.alpha) == (1600, 0.5)
    assert found.targets == ("a humanoid robot kneeling",)
    assert found.baselines == ("a humanoid robot",)
    assert found.cache_dir == Path("/root/.cache")
    assert len(found.relaxed) == 2
    assert "tensorboard_freq is left out: vlmrm refuses it" in found.relaxed[0]
    assert "2 · 200 = 400 (nearest: 400)" in found.relaxed[1]
    assert all(str(path) in line for line in found.relaxed)


def test_a_file_without_a_cache_folder_names_none(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(re.sub(r"\n *cache_dir:.*", "", README_EXAMPLE))
    assert read_vlmrm(path, workers=1).cache_dir is None


def test_four_gpus_make_the_examples_batch_fit(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(README_EXAMPLE)
    assert len(read_vlmrm(path, workers=4).relaxed) == 1


def test_the_examples_architecture_and_tag_are_open_clips() -> None:
    import open_clip

    assert open_clip.get_pretrained_cfg("ViT-g-14", "laion2b_s34b_b88k")


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ({"alpha": 1.5}, r"alpha 1.5: must be from 0 to 1; the nearest is 1\."),
        ({"alpha": -2}, r"the nearest is 0\."),
        ({"alpha": "half"}, "write a number from 0 to 1"),
        ({"batch_size": 0}, r"nearest whole number that works is 1\."),
        ({"batch_size": 12.6}, r"nearest whole number that works is 13\."),
        ({"batch_size": "many"}, "write a whole number"),
        ({"name": "ground_truth"}, "--kind truth"),
        ({"name": "clipp"}, "did you mean 'clip'"),
        ({"pretrained_model": "ViT-B-32"}, "write ARCH/TAG"),
        ({"target_prompts": []}, "describe the goal"),
        ({"target_prompts": [3]}, "a list of texts"),
        ({"baseline_prompts": None}, "or write alpha 0"),
        ({"alfa": 0.5}, "reward.alfa: vlmrm has no such key; did you mean 'alpha'"),
    ],
)
def test_what_cannot_work_is_refused_with_the_nearest_that_does(
    tmp_path: Path, reward: dict[str, Any], message: str
) -> None:
    path = changed(tmp_path, **reward)
    with pytest.raises(ConfigError, match=message) as caught:
        read_vlmrm(path, workers=1)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ({"target_prompts": ["a", "b"]}, "2 target_prompts and 1 baseline_prompts"),
        ({"target_prompts": "kneeling"}, "taken as a list of one"),
        ({"batch_size": None}, "64 is taken"),
        ({"batch_size": 30}, r"nearest: 25\)"),
        ({"camera_config": {"distance": 3.5}}, "by the contract's camera"),
        ({"textured": False}, "textured is left out"),
    ],
)
def test_what_vlmrm_would_refuse_or_do_is_relaxed_and_said(
    tmp_path: Path, reward: dict[str, Any], message: str
) -> None:
    relaxed = read_vlmrm(changed(tmp_path, **reward), workers=1).relaxed
    assert any(__import__("re").search(message, line) for line in relaxed), relaxed


def test_a_text_in_place_of_a_file_and_a_file_that_is_no_mapping_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_vlmrm(tmp_path / "gone.yaml", workers=1)
    for text, message in (
        ("[1, 2", "is no YAML"),
        ("- 1", "must be a mapping"),
        ("seed: 1", "reward must be"),
    ):
        path = tmp_path / "config.yaml"
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            read_vlmrm(path, workers=1)


@given(value=st.integers(1, 5000), other=st.integers(1, 5000))
def test_the_nearest_value_is_valid_and_no_valid_one_is_nearer(value: int, other: int) -> None:
    multiple, divisor = nearest_multiple(value, other), nearest_divisor(value, other)
    assert multiple > 0
    assert multiple % other == 0
    assert other % divisor == 0
    assert abs(multiple - value) <= min(abs(k * other - value) for k in range(1, value // other + 2))
    assert abs(divisor - value) == min(abs(k - value) for k in range(1, other + 1) if other % k == 0)
