"""Encoders, augmentation and batches of pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import torch

from episodes.errors import ConfigError, DatasetError
from policy.algorithms.bc import BCConfig
from policy.algorithms.iql import IQLConfig
from policy.augment import crop, shift
from policy.critic import TwinQ
from policy.data import DataConfig, load_data
from policy.encoders import EncoderConfig, Encoders, ResidualBlock, build_encoder
from policy.export import ExportConfig, export
from policy.observations import Eyes, Observations, ObservationSpace
from policy.pictures import PictureSampler
from policy.regularise import Regularisers
from policy.train import train

KINDS = ["small", "workflow", "workflow-small", "workflow-deep", "workflow-resnet"]


@pytest.mark.parametrize(
    ("kind", "width", "parameters"),
    [
        ("small", 64, 3 * 32 * 9 + 32 + 3 * (32 * 32 * 9 + 32) + 32 * 17 * 17 * 64 + 64 + 128),
        ("workflow", 12 * 12 * 16, (3 + 16 + 16) * 16 * 9 + 3 * 16),
        ("workflow-small", 24 * 24 * 32, 3 * 32 * 9 + 32),
        ("workflow-deep", 12 * 12 * 32, (3 + 4 * 32) * 32 * 9 + 5 * 32),
        (
            "workflow-resnet",
            12 * 12 * 128,
            3 * 64 * 16 + 64 + 64 * 128 * 16 + 128 + 128 * 128 * 9 + 128 + 3 * (128 * 64 * 9 + 64 * 128),
        ),
    ],
)
def test_encoders_have_the_sizes_that_are_published_for_48_pixels(kind, width, parameters) -> None:
    encoder = build_encoder(EncoderConfig(kind=kind), (48, 48, 3))
    assert sum(p.numel() for p in encoder.parameters()) == parameters
    assert encoder(torch.rand(2, 3, 48, 48)).shape == (2, width)


def test_the_workflows_cnn_pools_before_the_relu_and_starts_as_published() -> None:
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(kind="workflow"), (8, 12, 3))
    kinds = [type(layer).__name__ for layer in encoder]
    assert kinds == ["Conv2d", "MaxPool2d", "ReLU"] * 2 + ["Conv2d", "ReLU", "Flatten"]
    first = encoder[0]
    assert not first.bias.any()
    bound = (6 / (3 * 9 + 16 * 9)) ** 0.5
    assert 0.9 * bound < first.weight.abs().max() <= bound
    x = torch.rand(2, 3, 8, 12)
    y = torch.nn.functional.max_pool2d(first(x), 2).relu()
    y = torch.nn.functional.max_pool2d(encoder[3](y), 2).relu()
    torch.testing.assert_close(encoder(x), encoder[6](y).relu().flatten(1))


def test_a_residual_block_is_its_formula() -> None:
    block, x = ResidualBlock(8, 4), torch.randn(2, 8, 5, 5)
    inner = torch.nn.functional.conv2d(x.relu(), block.narrow.weight, padding=1)
    expected = x + torch.nn.functional.conv2d(inner.relu(), block.widen.weight)
    torch.testing.assert_close(block(x), expected)


def test_dropout_of_channels_acts_while_training_only() -> None:
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(kind="workflow", dropout=0.5), (8, 8, 3))
    x = torch.rand(1, 3, 8, 8)
    assert not torch.equal(encoder(x), encoder(x))
    assert torch.equal(encoder.eval()(x), encoder(x))


def test_pictures_too_small_for_a_network_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"--encoder.kind small: pictures of 8x9 are too small.*16x16"):
        Encoders(EncoderConfig(), [(8, 9, 3)])


def test_features_of_all_cameras_stand_before_the_vector() -> None:
    space = ObservationSpace(3, ((16, 16, 3), (20, 24, 1)), EncoderConfig(features=5))
    eyes = Eyes(space)
    images = tuple(torch.randint(0, 256, (2, *shape), dtype=torch.uint8) for shape in space.cameras)
    vector = torch.randn(2, 3)
    found = eyes(Observations(vector, images))
    assert found.shape == (2, 13)
    torch.testing.assert_close(found[:, 10:], vector)
    for camera, encoder in enumerate(eyes.encoders.cameras):
        floats = images[camera].permute(0, 3, 1, 2).float() / 255
        torch.testing.assert_close(found[:, 5 * camera : 5 * camera + 5], encoder(floats))


@pytest.mark.parametrize("per_q", [False, True])
def test_both_q_share_an_encoder_or_have_one_each(per_q) -> None:
    torch.manual_seed(0)
    space = ObservationSpace(2, ((8, 8, 3),), EncoderConfig(kind="workflow-small", per_q=per_q))
    q = TwinQ(space, 1, (4,), regularise=Regularisers(dr3=0.1, dr3_form="encoder"))
    seen = Observations(torch.randn(3, 2), (torch.randint(0, 256, (3, 8, 8, 3), dtype=torch.uint8),))
    encoded = q.encode(seen)
    assert encoded.shape == (2 if per_q else 1, 3, 4 * 4 * 32 + 2)
    a = torch.rand(5, 3, 1)
    together = q.values(encoded, a).q
    torch.testing.assert_close(together[:, 2], q(seen, a[2]))
    values = q.values(encoded, a[0])
    term = q.penalties(values, encoded, seen, None)["dr3"]
    expected = 0.1 * encoded[..., :512].square().sum(-1).mean()
    torch.testing.assert_close(term, expected)


def test_a_shift_moves_the_picture_and_fills_with_black() -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 9, 7, 3), np.uint8)
    pixels = torch.tensor([[0, 0], [2, 0], [0, -2], [-1, 1], [2, 2], [-2, -2]])
    found = shift(torch.from_numpy(images), pixels, 2).numpy()
    for image, move, moved in zip(images, pixels.tolist(), found, strict=True):
        expected = scipy.ndimage.shift(image, (*move, 0), order=0, cval=0)
        np.testing.assert_array_equal(moved, expected)


def test_a_crop_is_the_window_enlarged() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 10, 8, 3), np.uint8)
    place = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.3, 0.8]])
    whole = crop(torch.from_numpy(images), 1.0, place)
    torch.testing.assert_close(whole, torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)
    found = crop(torch.from_numpy(images), 0.5, place).numpy()
    for image, (down, right), window in zip(images, place.tolist(), found, strict=True):
        rows = (np.arange(10) + 0.5) * 0.5 - 0.5 + down * 5
        columns = (np.arange(8) + 0.5) * 0.5 - 0.5 + right * 4
        for channel in range(3):
            grid = np.meshgrid(rows, columns, indexing="ij")
            plane = scipy.ndimage.map_coordinates(image[..., channel] / 255, grid, order=1, mode="nearest")
            np.testing.assert_allclose(window[channel], plane, atol=1e-5)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_batch_holds_the_pictures_of_its_transitions(compressed, tiny, tmp_path: Path, rng) -> None:
    import h5py

    episodes = [tiny.with_pictures(rng, tiny.episode(rng, n)) for n in (4, 3, 5)]
    files = [
        tiny.write(tmp_path / "a.h5", episodes[:2], masks={"train": [1], "valid": [0]}),
        tiny.write(tmp_path / "b.h5", episodes[2:]),
    ]
    if compressed:
        with h5py.File(files[0], "a") as file:
            values = file["data/demo_1/obs/front"][:]
            del file["data/demo_1/obs/front"]
            file["data/demo_1/obs"].create_dataset(
                "front", data=values, chunks=(1, 4, 5, 3), compression="lzf"
            )
    data = load_data(
        DataConfig(files=tuple(files), streams=("front", "state"), reward="constant", scale_reward=False)
    )
    assert data.cameras == {"front": (4, 5, 3)}
    rows = data.pictures.observe(data.train)
    for seen, kind in ((rows.observations, "obs"), (rows.next_observations, "next_obs")):
        expected = np.concatenate([e[f"{kind}/front"] for e in episodes[1:]])
        np.testing.assert_array_equal(seen.images[0].numpy(), expected)
        expected = np.concatenate([e[f"{kind}/state"] for e in episodes[1:]])
        np.testing.assert_allclose(seen.vector.numpy(), expected, rtol=1e-6)
    assert len(data.pictures.observe(data.valid).observations.images[0]) == 4
    ahead = load_data(
        DataConfig(files=(files[1],), streams=("front",), reward="constant", scale_reward=False, n_step=3)
    )
    seen = ahead.pictures.observe(ahead.train)
    assert seen.observations.vector.shape == (5, 0)
    last = episodes[2]["next_obs/front"][[2, 3, 4, 4, 4]]
    np.testing.assert_array_equal(seen.next_observations.images[0].numpy(), last)


def test_other_pictures_are_other_data_and_a_sampler_goes_on_where_it_stood(
    tiny, tmp_path: Path, rng
) -> None:
    episode = tiny.episode(rng)
    hashes = set()
    for number in range(2):
        path = tiny.write(tmp_path / f"{number}.h5", [tiny.with_pictures(rng, episode)])
        data = load_data(DataConfig(files=(path,), streams=("front",)))
        hashes.add(data.sha256)
    assert len(hashes) == 2
    first, other = (
        PictureSampler(data.train, 4, 0, data.pictures, EncoderConfig(shift=1, crop=0.8)) for _ in range(2)
    )
    first.sample()
    other.load_state_dict(first.state_dict())
    a, b = first.sample(), other.sample()
    assert torch.equal(a.observations.images[0], b.observations.images[0])
    assert not torch.equal(a.observations.images[0], first.sample().observations.images[0])
    assert a.observations.images[0].dtype == torch.float32


def test_pictures_of_another_size_than_the_contracts_are_refused(tiny, tmp_path: Path, rng) -> None:
    episode = tiny.with_pictures(rng, tiny.episode(rng))
    episode["next_obs/front"] = np.zeros((12, 4, 4, 3), np.uint8)
    path = tiny.write(tmp_path / "a.h5", [episode])
    with pytest.raises(
        DatasetError, match=r"demo_0/next_obs/front has pictures of uint8 \[4, 4, 3\], the con"
    ):
        load_data(DataConfig(files=(path,), streams=("front",)))


@pytest.mark.parametrize(
    "kind",
    [pytest.param(k, marks=[] if k in ("small", "workflow-resnet") else [pytest.mark.long]) for k in KINDS],
)
def test_every_encoder_trains_and_exports_within_its_tolerance(
    kind, make_config, tiny, tmp_path, rng
) -> None:
    contract = tiny.contract.replace("shape: [4, 5, 3]", "shape: [20, 24, 3]")
    frames = rng.integers(0, 256, (7, 20, 24, 3), np.uint8)
    episode = tiny.episode(rng, 6) | {"obs/front": frames[:-1], "next_obs/front": frames[1:]}
    path = tiny.write(tmp_path / "p.h5", [episode], contract=contract)
    config = make_config(
        algo=BCConfig(hidden=(8,)),
        data={"files": (path,), "streams": ("front",)},
        encoder=EncoderConfig(kind=kind, features=8),
        loop={"steps": 3},
        batch_size=4,
    )
    train(config)
    parity = export(ExportConfig(config.run)).parity
    assert parity.samples == 6
    assert parity.max_abs_difference <= parity.tolerance
    assert parity.tolerance <= 1e-4


def test_a_policy_tells_pictures_apart_that_ask_for_other_actions(
    tiny, tmp_path: Path, make_config, rng
) -> None:
    """A bright picture wants one action, a dark one another; the state says nothing."""
    from policy.run import load_policy

    episode = tiny.episode(rng, 40)
    bright = np.arange(41) % 2
    frames = (40 + 170 * bright)[:, None, None, None] + rng.integers(0, 30, (41, 4, 5, 3))
    wanted = np.where(bright[:-1, None] == 1, 0.5 * tiny.upper, 0.5 * tiny.lower)
    episode |= {
        "obs/front": frames[:-1].astype(np.uint8), "next_obs/front": frames[1:].astype(np.uint8), "actions":
        wanted
    }  # fmt: skip
    config = make_config(
        algo=IQLConfig(hidden=(16,), lr=1e-2, beta=0.0),
        data={
            "files": (tiny.write(tmp_path / "b.h5", [episode]),),
            "streams": ("front",),
            "reward": "random",
        },
        encoder=EncoderConfig(kind="workflow-small", shift=0),
        loop={"steps": 120},
    )
    train(config)
    graph = load_policy(config.run).graph
    for level, action in ((225, 0.5 * tiny.upper), (55, 0.5 * tiny.lower)):
        found = graph.act({"front": np.full((4, 5, 3), level, np.uint8)})
        np.testing.assert_allclose(found, action, atol=0.1 * (tiny.upper - tiny.lower).max())
