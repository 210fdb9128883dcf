"""Zero-shot and goal-image rewards of recorded episodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from episodes.dataset import Dataset
from episodes.errors import ConfigError
from reward.clip_labeller import ClipConfig, clip_rewards, with_vlmrm
from reward.clip_model import ClipModelConfig
from reward.embeddings_open_clip import EncodingConfig, TowerEncoder
from reward.frames import Frames
from reward.goal_image import GoalImageConfig, ImageEncoderConfig, goal_image_rewards, success_rows
from tests.reward.clip.test_vlmrm import README_EXAMPLE

HOW = EncodingConfig(resize="model", precision="fp32", devices=("cpu",), batch=32)
TARGETS, BASELINES = ("an open drawer", "a drawer pulled out"), ("a drawer",)


@pytest.fixture
def config(tiny_clip: Path) -> ClipConfig:
    return ClipConfig(
        targets=TARGETS,
        baselines=BASELINES,
        alpha=0.4,
        which=ClipModelConfig(model=f"local-dir:{tiny_clip}"),
        how=HOW,
    )


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of pictures that towers were given."""
    seen: list[int] = []
    before = TowerEncoder.encode

    def count(self: TowerEncoder, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        seen.append(len(images))
        return before(self, images)

    monkeypatch.setattr(TowerEncoder, "encode", count)
    return seen


def test_rewards_are_those_of_open_clip_and_numpy_alone(
    dataset: Dataset, frames: Frames, config: ClipConfig, tiny_clip: Path
) -> None:
    import open_clip

    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tiny_clip}")
    words = open_clip.get_tokenizer(f"local-dir:{tiny_clip}")
    with torch.inference_mode():
        x = model.eval().encode_image(
            torch.stack([transform(Image.fromarray(image)) for image in frames.images]), normalize=True
        )
        g, b = (
            model.encode_text(words(list(prompts)), normalize=True).mean(dim=0).double().numpy()
            for prompts in (TARGETS, BASELINES)
        )
    d = g - b
    projection = 0.4 * np.outer(d, d) / (d @ d) + 0.6 * np.eye(len(d))
    wanted = 1 - 0.5 * np.square((x.double().numpy() - g) @ projection.T).sum(axis=1)
    found = clip_rewards(dataset, frames, config)
    assert found.rewards[frames.judged] == pytest.approx(wanted[frames.judged], abs=1e-5)
    assert found.rewards.dtype == np.float32
    assert found.basis["targets"] == list(TARGETS)
    doubled = clip_rewards(dataset, frames, replace(config, doubled=True))
    assert doubled.rewards[frames.judged] == pytest.approx(2 * wanted[frames.judged] - 1, abs=1e-5)


def test_a_second_run_encodes_nothing_and_other_prompts_need_no_pictures(
    dataset: Dataset, frames: Frames, config: ClipConfig, encoded: list[int]
) -> None:
    first = clip_rewards(dataset, frames, config)
    assert 0 < sum(encoded) <= len(frames.judged)
    encoded.clear()
    again = clip_rewards(dataset, frames, config)
    assert encoded == []
    assert np.array_equal(first.rewards, again.rewards)
    assert first.basis == again.basis
    other = clip_rewards(dataset, frames, replace(config, targets=("a closed drawer",)))
    assert encoded == []
    assert other.basis != first.basis
    clip_rewards(dataset, frames, replace(config, how=replace(HOW, cache=False)))
    assert encoded


def test_without_a_target_the_error_shows_one(dataset: Dataset, frames: Frames) -> None:
    with pytest.raises(ConfigError, match=r"--clip\.targets 'an open drawer'"):
        clip_rewards(dataset, frames, ClipConfig())


def test_a_file_of_vlmrm_brings_prompts_alpha_model_and_batch(
    tmp_path: Path, tiny_clip: Path, dataset: Dataset, frames: Frames, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(README_EXAMPLE)
    cpu = EncodingConfig(devices=("cpu",))
    found, relaxed = with_vlmrm(ClipConfig(vlmrm=path, how=cpu))
    assert found.targets == ("a humanoid robot kneeling",)
    assert found.which.model == "ViT-g-14/laion2b_s34b_b88k"
    assert (found.alpha, found.how.batch) == (0.5, 1600)
    two, _ = with_vlmrm(ClipConfig(vlmrm=path, how=EncodingConfig(devices=("cpu", "cpu"))))
    assert two.how.batch == 800
    with pytest.raises(ConfigError, match="says alpha already"):
        with_vlmrm(ClipConfig(vlmrm=path, alpha=0.1))
    # The example's own weights are 5 GB; another model on the command line stands in for them.
    own = ClipConfig(vlmrm=path, which=ClipModelConfig(model=f"local-dir:{tiny_clip}"), how=cpu)
    rewarded = clip_rewards(dataset, frames, own)
    assert rewarded.basis["relaxed"] == list(relaxed)
    assert "tensorboard_freq is left out" in capsys.readouterr().err


def goal_config(tiny_clip: Path, **settings: object) -> GoalImageConfig:
    what = ImageEncoderConfig(open_clip=ClipModelConfig(model=f"local-dir:{tiny_clip}"), how=HOW)
    return GoalImageConfig(what=what, **settings)  # type: ignore[arg-type]


def test_the_goal_itself_gets_one_and_all_others_their_cosine(
    dataset: Dataset, frames: Frames, tiny_clip: Path, tmp_path: Path
) -> None:
    row = int(success_rows(frames)[0])
    cv2.imwrite(str(tmp_path / "goal.png"), cv2.cvtColor(frames.images[row], cv2.COLOR_RGB2BGR))
    found = goal_image_rewards(dataset, frames, goal_config(tiny_clip, goals=(str(tmp_path / "goal.png"),)))
    (encoder,) = make_tower(tiny_clip)
    features = encoder.encode(frames.images).astype(np.float64)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    assert found.rewards[row] == pytest.approx(1.0, abs=1e-6)
    assert found.rewards[frames.judged] == pytest.approx((features @ features[row])[frames.judged], abs=1e-5)


def make_tower(tiny_clip: Path) -> tuple[TowerEncoder, ...]:
    from reward.goal_image import make_encoders

    return tuple(make_encoders(goal_config(tiny_clip).what))  # type: ignore[arg-type]


def test_goals_are_files_episodes_frames_or_the_simulations_successes(
    dataset: Dataset, frames: Frames, tiny_clip: Path
) -> None:
    last = frames.starts[1] - 1
    by_episode = goal_image_rewards(dataset, frames, goal_config(tiny_clip, goals=("e0",)))
    assert by_episode.rewards[last] == pytest.approx(1.0, abs=1e-6)
    same = goal_image_rewards(dataset, frames, goal_config(tiny_clip, goals=("e0:-1",)))
    assert np.array_equal(same.rewards, by_episode.rewards)
    rows = success_rows(frames)
    assert frames.success is not None
    assert frames.success[rows].all()
    nearest = goal_image_rewards(dataset, frames, goal_config(tiny_clip, goals=("success",), to="nearest"))
    assert nearest.rewards[rows] == pytest.approx(1.0, abs=1e-6)
    mean = goal_image_rewards(
        dataset, frames, goal_config(tiny_clip, goals=("success",), baselines=("first",), alpha=0.5)
    )
    assert np.isfinite(mean.rewards).all()
    assert not np.array_equal(mean.rewards, nearest.rewards)


def test_the_active_region_leaves_out_what_never_changes(
    dataset: Dataset, frames: Frames, tiny_clip: Path
) -> None:
    found = goal_image_rewards(dataset, frames, goal_config(tiny_clip, goals=("success",), region="active"))
    box = found.basis["region"]
    assert isinstance(box, dict)
    assert box["height"] < frames.images.shape[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give pictures of the task done"),
        ({"goals": ("e99",)}, "no such file and no such episode"),
        ({"goals": ("e0:99",)}, "frames 0 to 15"),
        ({"goals": ("e0:x",)}, "EPISODE:FRAME with a number"),
        ({"goals": ("e0:-1",), "baselines": ("e0:-1",)}, "target and baseline are the same"),
        ({"goals": ("e0",), "alpha": 0.5}, "without a baseline"),
        ({"goals": (__file__,)}, "no picture that OpenCV reads"),
    ],
)
def test_goals_that_cannot_be_are_refused(
    dataset: Dataset, frames: Frames, tiny_clip: Path, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        goal_image_rewards(dataset, frames, goal_config(tiny_clip, **settings))


def test_without_known_success_goals_must_be_named(
    make_dataset: Callable[..., Dataset], tiny_clip: Path
) -> None:
    from reward.frames import load_frames

    dataset = make_dataset("blind", episodes=1, truth=False)
    with pytest.raises(ConfigError, match="name goals as files"):
        goal_image_rewards(dataset, load_frames(dataset, "front"), goal_config(tiny_clip, goals=("success",)))


def test_the_front_door_writes_a_label_file_per_episode_for_every_kind(
    dataset: Dataset, tiny_clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import armchair
    from episodes.labels import labellers, read_labels

    model = f"local-dir:{tiny_clip}"
    common = ["relabel", str(dataset.path), "--kind"]
    cpu = ["--{}.devices", "cpu", "--{}.precision", "fp32"]
    clip = [part.format("clip") for part in cpu] + ["--clip.model", model]
    goal = [part.format("goal-image") for part in cpu] + ["--goal-image.open-clip.model", model]
    prompts = ["--clip.targets", *TARGETS, "--clip.baselines", *BASELINES, "--clip.alpha", "0.5"]
    assert armchair.main([*common, "clip", *clip, *prompts]) == 0
    assert armchair.main([*common, "goal-image", *goal, "--goal-image.goals", "success"]) == 0
    assert set(labellers(dataset)) == {"clip", "goal-image"}
    for labeller in ("clip", "goal-image"):
        found = read_labels(dataset, labeller, "e0")
        assert np.isfinite(found.reward).all()
        assert len(np.unique(found.reward)) > 1
    assert armchair.main([*common, "clip", *clip]) == 2
    assert "--clip.targets 'an open drawer'" in capsys.readouterr().err
    assert armchair.main([*common, "clip", *clip, *prompts, "--clip.alpha", "1.5"]) == 2
    assert "the nearest is 1" in capsys.readouterr().err
