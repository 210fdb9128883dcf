"""What every kind of network keeps to: the same suite for all of them."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from episodes.contract import Source, parse_contract
from episodes.dataset import Dataset
from episodes.errors import DatasetError, LabelError
from episodes.writer import ExtraStream
from reward.embeddings_open_clip import EncodingConfig, TowerEncoder
from reward.embeddings_timm import TimmConfig
from reward.fitting import FittedReward, RewardConfig, fit_reward
from reward.frames import Frames, load_frames
from reward.goal_image import ImageEncoderConfig
from reward.inputs import Inputs, load_inputs, model_inputs, model_rewards
from reward.model import CARD, load_model, save_model
from reward.networks import HeadConfig, NetworkConfig, StateActionConfig
from reward.optimise import OptimiseConfig
from reward.pairs import LabelledPairs
from reward.scores import LabelledScores
from tests.reward.conftest import CONTRACT, START_NS, positions
from tests.reward.conftest import picture as slide

CPU = torch.device("cpu")
STATE = """
  joints: {topic: joint_states, type: sensor_msgs/msg/JointState, field: position, names: [x, still],
           align: nearest, max_age_ms: 100}
actions:"""
EPISODES, STEPS = 3, 9


@dataclass(frozen=True)
class World:
    """A recording with pictures and joint states, and labels of it."""

    dataset: Dataset
    frames: Frames
    pairs: LabelledPairs
    scores: LabelledScores


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    contract = parse_contract(CONTRACT.replace("\nactions:", STATE))
    dataset = Dataset.create(tmp_path_factory.mktemp("kinds") / "slides", contract)
    for number in range(EPISODES):
        with dataset.new_writer(
            clock="sim",
            started_ns=START_NS,
            task="slide",
            episode_id=f"e{number}",
            extra_streams=(ExtraStream("truth", (2,), "float64", ("reward", "success")),),
        ) as writer:
            for k, position in enumerate(positions(number)[: STEPS + 1].tolist()):
                at = START_NS + k * contract.period_ns
                writer.append("front", slide(position), at, at)
                writer.append("joints", [position / 10, 0.25], at, at)
                if k:
                    writer.append("truth", [position / 3, float(position >= 20)], at, at)
                if k < STEPS:
                    writer.append_command([k / 10], at, at, at, Source.SCRIPT)
            writer.finish("unknown", "none", "horizon")
    frames = load_frames(dataset, "front")
    rng = np.random.default_rng(0)
    late = frames.judged[frames.judged - frames.starts[frames.episode[frames.judged]] >= 3]
    first, second = rng.choice(late, size=(2, 200))
    apart = np.flatnonzero(frames.truth[first] != frames.truth[second])[:30]
    first, second = first[apart], second[apart]
    label = (frames.truth[second] > frames.truth[first]).astype(np.float32)
    pairs = LabelledPairs(first, second, label, np.arange(30) % 5 == 0)
    target = (2 * frames.truth[late] / frames.truth[late].max() - 1).astype(np.float32)
    return World(dataset, frames, pairs, LabelledScores(late, target, np.arange(len(late)) % 5 == 0))


CNN = NetworkConfig(kernels=(5, 3), channels=(8, 8), strides=(3, 2), members=2)
FIT = OptimiseConfig(epochs=2, batch_pairs=16, shift=1, noise=0.1, precision="fp32")
KINDS = {
    "cnn": CNN,
    "cnn-tanh": replace(CNN, head="tanh"),
    "cnn-segments": replace(CNN, segment=3),
    "encoder": NetworkConfig(kind="encoder", members=2, probe=HeadConfig((16,))),
    "resnet": NetworkConfig(kind="resnet", members=2),
    "state-action": NetworkConfig(kind="state-action", members=2),
    "state-action-segments": NetworkConfig(kind="state-action", members=2, segment=3, head="tanh"),
}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> ImageEncoderConfig:
    """timm's smallest model with random weights: no published weights are reachable from here."""
    path = tmp_path_factory.mktemp("encoder") / "vit.safetensors"
    torch.manual_seed(0)
    save_file(timm.create_model("test_vit", pretrained=False).state_dict(), path)
    how = EncodingConfig(precision="fp32", devices=("cpu",))
    return ImageEncoderConfig("timm", timm=TimmConfig("test_vit", path, size=32), how=how)


LONG = [pytest.mark.long]
"""ResNet-18 takes most of the suite's time: its short form is the test of resuming below."""


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=LONG if name == "resnet" else []) for name in sorted(KINDS)],
)
def config(request: pytest.FixtureRequest, encoder: ImageEncoderConfig) -> RewardConfig:
    return RewardConfig(network=KINDS[request.param], optimise=FIT, encoder=encoder, device="cpu")


@pytest.fixture(scope="module")
def once(world: World, config: RewardConfig) -> FittedReward:
    """One fit of each kind, which no test changes."""
    return fitted(world, config)


def looked_at(world: World, config: RewardConfig) -> Inputs:
    return load_inputs(config.network, world.dataset, world.frames, encoder=config.encoder, crop=config.crop)


def fitted(world: World, config: RewardConfig, **more: object):
    inputs = more.pop("inputs", None) or looked_at(world, config)
    labels = more.pop("labels", world.pairs)
    return fit_reward(world.frames, labels, config, CPU, stream="front", inputs=inputs, **more)  # type: ignore


def weights(found) -> dict[str, np.ndarray]:
    return {k: v.numpy() for k, v in found.model.ensemble.state_dict().items()}


def test_the_same_settings_give_the_same_rewards_and_another_seed_others(
    world: World, config: RewardConfig, once: FittedReward
) -> None:
    assert once.rewards.shape == (2, len(world.frames))
    assert np.isfinite(once.rewards).all()
    np.testing.assert_array_equal(once.rewards, fitted(world, config).rewards)
    assert not np.array_equal(once.rewards, fitted(world, replace(config, seed=1)).rewards)
    assert not np.array_equal(once.rewards[0], once.rewards[1]), "members begin and shuffle for themselves"


def test_a_saved_model_gives_the_same_rewards_to_the_dataset(
    world: World, config: RewardConfig, once: FittedReward, tmp_path: Path
) -> None:
    save_model(tmp_path, once.model)
    loaded = load_model(tmp_path, CPU)
    assert loaded.ensemble.config == config.network
    np.testing.assert_array_equal(model_rewards(loaded, world.dataset, world.frames), once.rewards)
    inputs = model_inputs(loaded, world.dataset, world.frames)
    assert loaded.features(inputs, np.array([3, 1])).shape[0] == 2
    card = json.loads((tmp_path / CARD).read_text(), parse_constant=lambda name: pytest.fail(name))
    assert card["fit"]["calibration"]["pairs"] == 6


def test_a_fit_that_is_stopped_after_any_epoch_ends_with_the_same_weights(
    world: World, config: RewardConfig, once: FittedReward, tmp_path: Path
) -> None:
    class Stopped(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Stopped

    checkpoint = tmp_path / "fit.safetensors"
    with pytest.raises(Stopped):
        fitted(world, config, checkpoint=checkpoint, progress=stop)
    seen: list[int] = []
    resumed = fitted(world, config, checkpoint=checkpoint, progress=lambda done, total: seen.append(done))
    assert seen == [2]
    for (name, one), other in zip(weights(once).items(), weights(resumed).values(), strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)
    assert resumed.history == once.history


def test_scores_are_fitted_by_every_kind(world: World, config: RewardConfig, tmp_path: Path) -> None:
    found = fitted(world, config, labels=world.scores)
    figures = found.model.card["scores"]
    assert figures["frames"] == world.scores.held_out.sum()
    assert figures["squared_error"] >= 0
    assert found.model.card["labels"] == "scores"
    assert found.quality.held_out_accuracy is None, "scores have no preference accuracy"


def test_one_pair_is_enough_to_fit_without_a_held_out_one(world: World, config: RewardConfig) -> None:
    one = LabelledPairs(*(column[:1] for column in world.pairs.columns[:3]), np.zeros(1, bool))
    alone = replace(config, optimise=replace(config.optimise, early_stop="none", epochs=1), held_out=0.0)
    found = fitted(world, alone, labels=one)
    assert found.model.card["pairs"] == 1
    assert np.isfinite(found.rewards).all()
    assert "calibration" not in found.model.card
    assert found.model.card["epochs"][0]["held_out_loss"] is None, "JSON has no NaN"
    with pytest.raises(LabelError, match="no held-out"):
        fitted(world, config, labels=one)


def test_labels_and_weights_that_are_no_numbers_are_refused(
    world: World, config: RewardConfig, once: FittedReward
) -> None:
    label = world.pairs.label.copy()
    label[3] = np.nan
    with pytest.raises(LabelError, match="1 labels lie outside 0 to 1"):
        fitted(world, config, labels=replace(world.pairs, label=label))
    inputs = looked_at(world, config).values
    broken = replace(once.model, ensemble=copy.deepcopy(once.model.ensemble))
    with torch.no_grad():
        next(iter(broken.ensemble.members[0].parameters())).fill_(float("nan"))
    with pytest.raises(LabelError, match="no number"):
        broken.rewards(inputs)


def test_inputs_of_another_size_are_refused(config: RewardConfig, once: FittedReward) -> None:
    wrong = np.zeros((2, 39, 48, 3), np.uint8) if config.network.of_pictures else np.zeros((2, 9), np.float32)
    with pytest.raises(DatasetError, match="fitted on"):
        once.model.rewards(wrong)


def test_vectors_that_are_no_numbers_are_refused_where_a_label_needs_them(world: World) -> None:
    config = RewardConfig(network=KINDS["state-action"], optimise=FIT, device="cpu")
    inputs = load_inputs(config.network, world.dataset, world.frames)
    values = inputs.values.copy()
    values[world.frames.starts[:-1]] = np.nan  # no label is about a first frame
    values[world.pairs.first[0], 0] = np.inf
    with pytest.raises(LabelError, match="1 labelled frames have inputs that are no numbers"):
        fitted(world, config, inputs=Inputs(values, inputs.identity))


def test_the_row_of_a_frame_holds_the_state_before_it_and_the_action_that_led_there(world: World) -> None:
    inputs = load_inputs(KINDS["state-action"], world.dataset, world.frames)
    assert inputs.identity == "joints[2] actions"
    number = 1
    where = positions(number)[: STEPS + 1] / 10
    rows = inputs.values[world.frames.rows_of(number)]
    expected = np.stack([where[:-1], np.full(STEPS, 0.25), np.arange(STEPS) / 10], axis=1)
    np.testing.assert_allclose(rows, expected, atol=1e-6)
    alone = NetworkConfig(kind="state-action", state_action=StateActionConfig(actions=False))
    assert load_inputs(alone, world.dataset, world.frames).identity == "joints[2]"
    typo = NetworkConfig(kind="state-action", state_action=StateActionConfig(streams=("joint",)))
    with pytest.raises(DatasetError, match="joints"):
        load_inputs(typo, world.dataset, world.frames)


def test_a_model_on_other_vectors_does_not_judge_these(world: World) -> None:
    config = RewardConfig(network=KINDS["state-action"], optimise=FIT, device="cpu")
    found = fitted(world, config)
    other = replace(found.model, input_identity="arm[3] actions")
    with pytest.raises(DatasetError, match=r"fitted on arm\[3\] actions, here are joints\[2\] actions"):
        model_rewards(other, world.dataset, world.frames)


def test_a_segment_that_would_begin_before_its_episode_is_refused(world: World) -> None:
    config = RewardConfig(network=replace(KINDS["cnn"], segment=6), optimise=FIT, device="cpu")
    with pytest.raises(LabelError, match=r"--show.frames 6 --show.stride 1"):
        fitted(world, config)


def test_constant_entries_of_vectors_do_not_blow_up(world: World) -> None:
    found = fitted(world, RewardConfig(network=KINDS["state-action"], optimise=FIT, device="cpu"))
    assert found.model.ensemble.scale[1] == 1.0
    assert found.model.ensemble.mean[1] == 0.25


def test_features_of_an_encoder_are_computed_once_and_its_head_alone_is_fitted(
    world: World, encoder: ImageEncoderConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RewardConfig(network=KINDS["encoder"], optimise=FIT, encoder=encoder, device="cpu")
    before = looked_at(world, config)
    assert before.box is not None
    assert before.box.height < 40, "the encoder is shown the part in which anything changes"
    monkeypatch.setattr(TowerEncoder, "encode", lambda *_: pytest.fail("known features are encoded again"))
    np.testing.assert_array_equal(looked_at(world, config).values, before.values)
    found = fitted(world, config)
    sizes = [tuple(p.shape) for p in found.model.ensemble.members[0].parameters()]
    assert sizes == [(16, before.values.shape[1]), (16,), (1, 16), (1,)]


def test_a_head_on_one_encoder_does_not_judge_features_of_another(
    world: World, encoder: ImageEncoderConfig, tmp_path: Path
) -> None:
    config = RewardConfig(network=KINDS["encoder"], optimise=FIT, encoder=encoder, device="cpu")
    found = fitted(world, config)
    torch.manual_seed(1)
    save_file(timm.create_model("test_vit", pretrained=False).state_dict(), tmp_path / "vit.safetensors")
    timm_config = replace(encoder.timm, checkpoint=tmp_path / "vit.safetensors")
    other = json.loads(json.dumps(asdict(replace(encoder, timm=timm_config)), default=str))
    with pytest.raises(DatasetError, match=r"fitted on timm \w+.*, here are timm \w+"):
        model_rewards(replace(found.model, encoder=other), world.dataset, world.frames)


def test_resnet_goes_on_where_it_stopped_with_its_running_statistics(world: World, tmp_path: Path) -> None:
    network = replace(KINDS["resnet"], members=1)
    brief = replace(FIT, early_stop="none", batch_pairs=4)
    config = RewardConfig(network=network, optimise=brief, device="cpu", held_out=0.0)
    few = LabelledPairs(*(column[:5] for column in world.pairs.columns[:3]), np.zeros(5, bool))
    expected = fitted(world, config, labels=few)
    checkpoint = tmp_path / "fit.safetensors"

    class Stopped(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        fitted(world, config, labels=few, checkpoint=checkpoint, progress=stop)
    resumed = fitted(world, config, labels=few, checkpoint=checkpoint)
    for (name, one), other in zip(weights(expected).items(), weights(resumed).values(), strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)
    assert any("running_mean" in name for name in weights(expected))
