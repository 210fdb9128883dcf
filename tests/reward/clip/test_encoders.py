"""Every image encoder keeps the contract of `reward.encoders`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from safetensors.torch import save_file

from episodes.errors import ConfigError
from reward.clip_model import ClipModelConfig
from reward.embeddings import embed
from reward.embeddings_onnx import OnnxConfig, OnnxEncoder
from reward.embeddings_open_clip import EncodingConfig
from reward.embeddings_timm import TimmConfig, timm_encoders
from reward.encoders import ImageEncoder
from reward.goal_image import ImageEncoderConfig, make_encoders

HOW = EncodingConfig(precision="fp32", devices=("cpu",))
TIMM = "test_vit.r160_in1k"


def graph(path: Path, shape: list[object], kind: int, *, batch_fixed: bool = False) -> Path:
    """An ONNX file: channel means, doubled."""
    axes = [1, 2] if shape[3] == 3 else [2, 3]
    nodes = [
        helper.make_node("Cast", ["picture"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["wide", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "two"], ["features"]),
    ]
    values = [
        helper.make_tensor("axes", TensorProto.INT64, [2], axes),
        helper.make_tensor("two", TensorProto.FLOAT, [], [2.0]),
    ]
    built = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info("picture", kind, shape)],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [shape[0], 3])],
        values,
    )
    onnx.save(helper.make_model(built, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def timm_file(path: Path, seed: int) -> Path:
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        save_file(timm.create_model(TIMM, pretrained=False).state_dict(), path)
    return path


@pytest.fixture(params=["open-clip", "timm", "onnx"])
def make(
    request: pytest.FixtureRequest, tmp_path: Path, clip_folder: Callable[..., Path]
) -> Callable[[int], ImageEncoder]:
    """An encoder with the weights of a seed."""

    def built(seed: int) -> ImageEncoder:
        if request.param == "open-clip":
            folder = clip_folder(seed)
            config = ImageEncoderConfig(open_clip=ClipModelConfig(model=f"local-dir:{folder}"), how=HOW)
        elif request.param == "timm":
            file = timm_file(tmp_path / f"{seed}.safetensors", seed)
            config = ImageEncoderConfig("timm", timm=TimmConfig(TIMM, file), how=HOW)
        else:
            file = graph(tmp_path / f"{seed}.onnx", ["n", 3, 16 + seed, 16 + seed], TensorProto.FLOAT)
            config = ImageEncoderConfig("onnx", onnx=OnnxConfig(file), how=HOW)
        (encoder,) = make_encoders(config)
        return encoder

    return built


def test_an_encoder_keeps_the_contract(make: Callable[[int], ImageEncoder]) -> None:
    encoder = make(0)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 40, 48, 3), np.uint8)
    found = encoder.encode(images)
    assert found.shape == (5, encoder.dim)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    # Equal pictures give equal features, alone or in company, and other pictures others.
    assert encoder.encode(images[2:3]) == pytest.approx(found[2:3], abs=1e-5)
    assert np.abs(found[0] - found[1]).max() > 1e-4
    assert encoder.encode(rng.integers(0, 256, (1, 90, 31, 3), np.uint8)).shape == (1, encoder.dim)
    again, other = make(0), make(1)
    assert again.identity == encoder.identity
    assert other.identity != encoder.identity


def test_timm_gives_the_pooled_features_of_its_own_transform(
    tmp_path: Path, photograph: NDArray[np.uint8]
) -> None:
    import timm
    from PIL import Image

    file = timm_file(tmp_path / "w.safetensors", 3)
    whole = timm.create_model(TIMM, checkpoint_path=str(file)).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(whole), is_training=False)
    with torch.inference_mode():
        tokens = whole.forward_features(transform(Image.fromarray(photograph))[None])
        wanted = whole.forward_head(tokens, pre_logits=True).numpy()
    how = EncodingConfig(resize="model", precision="fp32", devices=("cpu",))
    (encoder,) = timm_encoders(TimmConfig(TIMM, file), how)
    assert encoder.encode(photograph[None]) == pytest.approx(wanted, abs=1e-4)


def test_timm_refuses_other_names_and_weights(tmp_path: Path) -> None:
    file = timm_file(tmp_path / "w.safetensors", 0)
    with pytest.raises(ConfigError, match="did you mean 'test_vit'"):
        timm_encoders(TimmConfig("test_vitt", file), HOW)
    with pytest.raises(ConfigError, match="give the file with the weights"):
        timm_encoders(TimmConfig(TIMM), HOW)
    with pytest.raises(ConfigError, match=r"another model|size mismatch"):
        timm_encoders(TimmConfig("test_resnet", file), HOW)
    (tmp_path / "w.pkl").touch()
    with pytest.raises(ConfigError, match="may hold code"):
        timm_encoders(TimmConfig(TIMM, tmp_path / "w.pkl"), HOW)


def test_an_onnx_graph_gets_normalised_floats_or_raw_pixels_in_its_own_layout(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    pixels = images.astype(np.float64).mean(axis=(1, 2))
    floats = OnnxEncoder(OnnxConfig(graph(tmp_path / "f.onnx", ["n", 3, 16, 16], TensorProto.FLOAT)), HOW)
    mean, std = np.array(OnnxConfig().mean), np.array(OnnxConfig().std)
    assert floats.encode(images) == pytest.approx(2 * (pixels / 255 - mean) / std, abs=1e-4)
    raw = OnnxEncoder(OnnxConfig(graph(tmp_path / "u.onnx", ["n", 16, 16, 3], TensorProto.UINT8)), HOW)
    assert raw.encode(images) == pytest.approx(2 * pixels, abs=1e-2)
    fixed = OnnxEncoder(OnnxConfig(graph(tmp_path / "b.onnx", [2, 16, 16, 3], TensorProto.UINT8)), HOW)
    assert fixed.encode(images) == pytest.approx(2 * pixels, abs=1e-2)


def test_an_onnx_graph_that_reaches_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    path = graph(tmp_path / "inner" / "m.onnx", ["n", 3, 8, 8], TensorProto.FLOAT)
    model = onnx.load(path)
    tensor = model.graph.initializer[1]
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret.bin")
    (tmp_path / "secret.bin").write_bytes(np.float32(2).tobytes())
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ConfigError, match=r"outside its folder|no sound ONNX graph"):
        OnnxEncoder(OnnxConfig(path), HOW)


def test_a_file_that_is_no_graph_or_no_image_encoder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "noise.onnx").write_bytes(b"\x07noise")
    with pytest.raises(ConfigError, match="no sound ONNX graph"):
        OnnxEncoder(OnnxConfig(tmp_path / "noise.onnx"), HOW)
    with pytest.raises(ConfigError, match=r"give an \.onnx file"):
        OnnxEncoder(OnnxConfig(tmp_path / "gone.onnx"), HOW)
    good = graph(tmp_path / "f.onnx", ["n", 3, 16, 16], TensorProto.FLOAT)
    with pytest.raises(ConfigError, match="did you mean 'features'"):
        OnnxEncoder(OnnxConfig(good, output="feature"), HOW)


def test_two_devices_give_what_one_gives(tiny_clip: Path) -> None:
    """Two replicas on the CPU stand for two GPUs: what this leaves out is CUDA itself."""
    images = np.random.default_rng(0).integers(0, 256, (9, 40, 48, 3), np.uint8)

    def features(*devices: str) -> NDArray[np.float32]:
        how = EncodingConfig(precision="fp32", devices=devices)
        model = ClipModelConfig(model=f"local-dir:{tiny_clip}")
        encoders = make_encoders(ImageEncoderConfig(open_clip=model, how=how))
        assert len(encoders) == len(devices)
        return embed(images, encoders, batch=2)

    assert features("cpu", "cpu") == pytest.approx(features("cpu"), abs=1e-6)
