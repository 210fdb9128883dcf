"""The ensemble and its fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from episodes.errors import ConfigError, DatasetError, LabelError
from reward.fitting import RewardConfig, fit_reward, new_ensemble
from reward.forms import paper_config
from reward.frames import Frames
from reward.model import CARD, WEIGHTS, load_model, save_model
from reward.networks import NetworkConfig, RewardCNN
from reward.optimise import OptimiseConfig, fit
from reward.pairs import LabelledPairs
from reward.preference import RewardEnsemble, predict
from reward.regions import Box, whole

CPU = torch.device("cpu")


def labelled(frames: Frames, count: int = 120, mistakes: float = 0.0, seed: int = 0) -> LabelledPairs:
    rng = np.random.default_rng(seed)
    first, second = rng.choice(frames.judged, size=(2, 4 * count))
    keep = np.flatnonzero(frames.truth[first] != frames.truth[second])[:count]
    first, second = first[keep], second[keep]
    label = (frames.truth[second] > frames.truth[first]) ^ (rng.random(count) < mistakes)
    return LabelledPairs(first, second, label.astype(np.float32), np.arange(count) % 10 == 0)


def test_the_network_is_the_papers() -> None:
    """Kernels 5, 3, 3, 3, channels 16 to 128, strides 3, 2, 2, 2, no padding: 84 → 27 → 13 → 6 → 2."""
    torch.manual_seed(0)
    network = RewardCNN(NetworkConfig(head="tanh"), 84, 84)
    convolutions = [m for m in network.features if isinstance(m, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels, c.kernel_size[0], c.stride[0]) for c in convolutions] == [
        (3, 16, 5, 3),
        (16, 32, 3, 2),
        (32, 64, 3, 2),
        (64, 128, 3, 2),
    ]
    assert network.head.in_features == 128 * 2 * 2
    for convolution in convolutions:
        bound = (convolution.in_channels * convolution.kernel_size[0] ** 2) ** -0.5
        assert 0.9 * bound < float(convolution.weight.detach().abs().max()) <= bound
        assert not convolution.bias.detach().any()
    assert float(network.head.weight.detach().abs().max()) <= 1e-3
    with torch.no_grad():
        network.head.weight.fill_(1.0)
        assert float(network(torch.rand(4, 3, 84, 84)).abs().max()) <= 1.0


def test_the_smallest_picture_is_what_the_last_layer_sees() -> None:
    config = NetworkConfig()
    assert config.smallest_side == 47
    assert config.flat_size(47, 47) == 128
    with pytest.raises(ConfigError, match="47 pixels"):
        config.flat_size(46, 47)


def test_a_member_forward_equals_numpy(frames: Frames, small: RewardConfig) -> None:
    """Preparation and convolutions against loops in float64."""
    ensemble = new_ensemble(frames, small, CPU)
    images = ensemble.box.crop(frames.images[:2])
    x = (images.astype(np.float64) / 255 - ensemble.mean.numpy()) / float(ensemble.scale)
    member = ensemble.members[0]
    for layer in [m for m in member.features if isinstance(m, nn.Conv2d)]:  # type: ignore[union-attr]
        weight, bias = (t.detach().numpy().astype(np.float64) for t in (layer.weight, layer.bias))
        kernel, stride = layer.kernel_size[0], layer.stride[0]
        windows = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), axis=(1, 2))[
            :, ::stride, ::stride
        ]
        x = np.maximum(np.einsum("nyxcij,ocij->nyxo", windows, weight) + bias, 0)
    flat = x.transpose(0, 3, 1, 2).reshape(2, -1)
    head = member.head
    expected = flat @ head.weight.detach().numpy()[0].astype(np.float64) + head.bias.item()  # type: ignore
    np.testing.assert_allclose(predict(ensemble, images)[0], expected, rtol=1e-3, atol=1e-6)


def test_one_step_is_adam_over_the_sum_of_members_losses(small: RewardConfig) -> None:
    """Against gradients and Adam written out by hand, for a batch that holds every pair."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 20, 20, 3), dtype=np.uint8)
    pairs = LabelledPairs(
        rng.integers(12, size=9), rng.integers(12, size=9), np.ones(9, np.float32), np.zeros(9, bool)
    )
    config = OptimiseConfig(
        learning_rate=0.01,
        batch_pairs=9,
        epochs=1,
        early_stop="none",
        shift=0,
        mistakes=0.1,
        precision="fp32",
    )
    torch.manual_seed(1)
    ensemble = RewardEnsemble(small.network, whole(20, 20))
    before = [p.detach().clone() for p in ensemble.members.parameters()]
    rewards = ensemble(torch.from_numpy(images))
    difference = rewards[:, pairs.second] - rewards[:, pairs.first]
    chance = 0.9 * torch.sigmoid(difference) + 0.1 * torch.sigmoid(-difference)
    gradients = torch.autograd.grad(-chance.log().mean(dim=1).sum(), list(ensemble.members.parameters()))
    fit(ensemble, images, pairs, config, seed=0)
    checked = 0
    for old, gradient, new in zip(before, gradients, ensemble.members.parameters(), strict=True):
        clear = gradient.abs() > 1e-5  # below that rounding decides the direction of Adam's first step
        step = 0.01 * gradient / (gradient.abs() + 1e-8)
        torch.testing.assert_close(new.detach()[clear], (old - step)[clear], rtol=1e-3, atol=2e-4)
        checked += int(clear.sum())
    assert checked > 500


def test_the_fit_learns_the_order_in_spite_of_mistakes(frames: Frames, small: RewardConfig) -> None:
    config = replace(small, optimise=replace(small.optimise, epochs=12, patience=12))
    fitted = fit_reward(frames, labelled(frames, 240, mistakes=0.1), config, CPU, stream="front")
    assert fitted.rewards.shape == (2, len(frames))
    assert fitted.quality.rank_correlation is not None
    assert fitted.quality.rank_correlation > 0.95
    assert fitted.quality.success_above_best_decile is not None
    assert fitted.quality.held_out_accuracy is not None
    assert fitted.quality.held_out_accuracy > 0.7


def test_the_early_stop_takes_the_epoch_with_the_best_held_out_loss(
    frames: Frames, small: RewardConfig
) -> None:
    pairs = labelled(frames, 60, mistakes=0.4)
    config = replace(small, optimise=replace(small.optimise, epochs=40, patience=2, shift=0))
    fitted = fit_reward(frames, pairs, config, CPU, stream="front")
    losses = [epoch.held_out_loss for epoch in fitted.history]
    best = int(np.argmin(losses))
    assert len(losses) == best + 3 < 40
    assert fitted.quality.held_out_loss == pytest.approx(losses[best], abs=1e-6)


def test_the_papers_stop_fires_on_clean_labels_and_never_on_noisy_ones(
    frames: Frames, small: RewardConfig
) -> None:
    rule = OptimiseConfig(
        early_stop="accuracy", epochs=25, learning_rate=3e-3, batch_pairs=16, mistakes=0.0, shift=0
    )
    clean = fit_reward(frames, labelled(frames, 120), replace(small, optimise=rule), CPU, stream="front")
    assert clean.history[-1].train_accuracy > 0.97
    assert len(clean.history) < 25
    noisy = labelled(frames, 600, mistakes=0.25)
    short = replace(small, optimise=replace(rule, epochs=5))
    assert len(fit_reward(frames, noisy, short, CPU, stream="front").history) == 5


def test_a_fit_that_was_interrupted_ends_with_the_same_weights(
    frames: Frames, small: RewardConfig, tmp_path: Path
) -> None:
    pairs = labelled(frames, 80, mistakes=0.1)
    whole_fit = fit_reward(frames, pairs, small, CPU, stream="front")

    class Stopped(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise Stopped

    checkpoint = tmp_path / "fit.safetensors"
    with pytest.raises(Stopped):
        fit_reward(frames, pairs, small, CPU, stream="front", checkpoint=checkpoint, progress=stop)
    seen: list[int] = []
    resumed = fit_reward(
        frames,
        pairs,
        small,
        CPU,
        stream="front",
        checkpoint=checkpoint,
        progress=lambda done, total: seen.append(done),
    )
    assert seen == [3, 4]
    np.testing.assert_array_equal(resumed.rewards, whole_fit.rewards)
    other = replace(small, seed=1)
    again = fit_reward(
        frames, pairs, other, CPU, stream="front", checkpoint=checkpoint, progress=lambda d, t: seen.append(d)
    )
    assert seen == [3, 4, 1, 2, 3, 4], "a checkpoint of other settings must not be taken up"
    assert not np.array_equal(again.rewards, whole_fit.rewards)


def test_a_fit_of_the_same_rows_of_another_camera_begins_anew(
    frames: Frames, small: RewardConfig, tmp_path: Path
) -> None:
    pairs, checkpoint = labelled(frames, 80), tmp_path / "fit.safetensors"
    fit_reward(frames, pairs, small, CPU, stream="front", checkpoint=checkpoint)
    mirrored = replace(frames, images=np.ascontiguousarray(frames.images[:, :, ::-1]))
    fresh = fit_reward(mirrored, pairs, small, CPU, stream="back")
    found = fit_reward(mirrored, pairs, small, CPU, stream="back", checkpoint=checkpoint)
    np.testing.assert_array_equal(found.rewards, fresh.rewards)


def test_labels_that_cannot_be_fitted_are_refused(frames: Frames, small: RewardConfig) -> None:
    none = LabelledPairs(*(np.empty(0, t) for t in (np.int64, np.int64, np.float32, np.bool_)))
    with pytest.raises(LabelError, match="no labelled pair"):
        fit_reward(frames, none, small, CPU, stream="front")
    pairs = labelled(frames, 20)
    nothing_held_out = LabelledPairs(pairs.first, pairs.second, pairs.label, np.zeros(20, bool))
    with pytest.raises(LabelError, match="no held-out pair"):
        fit_reward(frames, nothing_held_out, small, CPU, stream="front")


def test_a_model_gives_the_same_rewards_after_saving(
    frames: Frames, small: RewardConfig, tmp_path: Path
) -> None:
    fitted = fit_reward(frames, labelled(frames, 60), small, CPU, stream="front")
    save_model(tmp_path / "m", fitted.model)
    loaded = load_model(tmp_path / "m", CPU)
    np.testing.assert_array_equal(loaded.rewards(frames.images), fitted.rewards)
    assert loaded.scale == fitted.model.scale
    assert loaded.shaping == small.shaping
    with pytest.raises(DatasetError, match="fitted on frames of"):
        loaded.rewards(np.zeros((1, 50, 50, 3), np.uint8))


def test_damaged_models_are_refused_with_their_folder(
    frames: Frames, small: RewardConfig, tmp_path: Path
) -> None:
    fitted = fit_reward(frames, labelled(frames, 60), small, CPU, stream="front")
    save_model(tmp_path, fitted.model)
    weights = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(weights[:-1] + b"x")
    with pytest.raises(DatasetError, match="hash"):
        load_model(tmp_path, CPU)
    (tmp_path / CARD).write_text("{")
    with pytest.raises(DatasetError, match=CARD):
        load_model(tmp_path, CPU)
    with pytest.raises(DatasetError, match="armchair fit"):
        load_model(tmp_path / "nowhere", CPU)


def test_the_papers_form_sees_whole_pictures_and_saturates() -> None:
    config = paper_config()
    assert (config.crop, config.centre, config.network.head) == ("none", False, "tanh")
    assert (config.optimise.early_stop, config.optimise.accuracy, config.optimise.mistakes) == (
        "accuracy",
        0.97,
        0.0,
    )
    images = np.random.default_rng(0).integers(0, 256, (2, 84, 84, 3), dtype=np.uint8)
    frames = Frames(("e",), np.array([0, 2]), images, np.array([np.nan, 0.0]), None)
    ensemble = new_ensemble(frames, config, CPU)
    assert ensemble.box == Box(0, 0, 84, 84)
    torch.testing.assert_close(
        ensemble.prepare(torch.from_numpy(images)), torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    )
