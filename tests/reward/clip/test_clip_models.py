"""CLIP models: found, loaded without running code, built as they were trained."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from episodes.errors import ConfigError, MachineError
from reward.clip_model import ClipModelConfig, load_clip
from reward.embeddings_open_clip import (
    EncodingConfig,
    open_clip_encoders,
    pick_devices,
    pick_precision,
)


@pytest.fixture(scope="module")
def arch(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An architecture that open_clip knows by name, small."""
    import json

    import open_clip

    from tests.reward.clip.conftest import TINY

    path = tmp_path_factory.mktemp("arch") / "armchair-tiny.json"
    path.write_text(json.dumps(TINY))
    open_clip.add_model_config(path)
    return "armchair-tiny"


def weights_of(folder: Path) -> Path:
    return folder / "open_clip_model.safetensors"


def test_features_are_open_clips_own_of_its_own_transform(
    tiny_clip: Path, photograph: NDArray[np.uint8]
) -> None:
    import open_clip

    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tiny_clip}")
    with torch.inference_mode():
        wanted = model.eval().encode_image(transform(Image.fromarray(photograph))[None]).numpy()
        text = model.encode_text(open_clip.get_tokenizer(f"local-dir:{tiny_clip}")(["a desk"])).numpy()
    mine = load_clip(ClipModelConfig(model=f"local-dir:{tiny_clip}"))
    (encoder,) = open_clip_encoders(mine, EncodingConfig(resize="model", precision="fp32", devices=("cpu",)))
    assert encoder.dim == 24
    assert encoder.encode(photograph[None]) == pytest.approx(wanted, abs=1e-5)
    assert mine.encode_text(["a desk"]) == pytest.approx(text, abs=1e-6)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_local_file_of_tensors_is_loaded(suffix: str, arch: str, tiny_clip: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    path = weights_of(tiny_clip)
    if suffix == ".pt":
        path = tmp_path / "weights.pt"
        torch.save({"state_dict": load_file(weights_of(tiny_clip))}, path)
    found = load_clip(ClipModelConfig(model=arch, checkpoint=path))
    assert found.digest == load_clip(ClipModelConfig(model=f"local-dir:{tiny_clip}")).digest


def test_a_file_that_would_run_code_does_not(arch: str, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
            return (Path.touch, (tmp_path / "sprung",))

    bait = tmp_path / "weights.pt"
    bait.write_bytes(pickle.dumps({"state_dict": Trap()}, protocol=2))
    with pytest.raises(ConfigError, match="nothing but tensors"):
        load_clip(ClipModelConfig(model=arch, checkpoint=bait))
    torch.save({"state_dict": Trap()}, bait)
    with pytest.raises(ConfigError, match="nothing but tensors"):
        load_clip(ClipModelConfig(model=arch, checkpoint=bait))
    assert not (tmp_path / "sprung").exists()


def test_a_torchscript_archive_is_refused_with_the_way_to_convert_it(arch: str, tmp_path: Path) -> None:
    path = tmp_path / "ViT-B-32.pt"
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        for name in ("archive/constants.pkl", "archive/data.pkl", "archive/version", "archive/code/x.py"):
            archive.writestr(name, "3\n")
    with pytest.raises(ConfigError, match=r"clip\.checkpoint"):
        load_clip(ClipModelConfig(model=arch, checkpoint=path))


def test_weights_of_another_architecture_are_refused(arch: str, clip_folder: Callable[..., Path]) -> None:
    from tests.reward.clip.conftest import TINY_RESNET

    other = clip_folder(config=TINY_RESNET)
    with pytest.raises(ConfigError, match="tensors of this architecture"):
        load_clip(ClipModelConfig(model=arch, checkpoint=weights_of(other)))


@pytest.mark.parametrize(
    ("model", "hint"),
    [
        ("ViT-B32/openai", "did you mean 'ViT-B-32'"),
        ("vit-b-32/openai", "did you mean 'ViT-B-32'"),
        ("ViT-B-32/laion2b_s34b_b79", "did you mean 'laion2b_s34b_b79k'"),
        ("ViT-B-32", "weights are missing"),
        ("local-dir:/nowhere", "open_clip_config.json is missing"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(model: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        load_clip(ClipModelConfig(model=model))


def test_a_file_that_is_not_there_or_of_another_kind_is_refused(arch: str, tmp_path: Path) -> None:
    for name in ("gone.safetensors", "weights.npz"):
        with pytest.raises(ConfigError, match=name):
            load_clip(ClipModelConfig(model=arch, checkpoint=tmp_path / name))


def test_a_tag_beside_a_file_says_how_the_model_was_trained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import open_clip

    seen: dict[str, object] = {}

    def record(name: str, **options: object) -> None:
        seen.update(options, name=name)
        raise RuntimeError("far enough")

    monkeypatch.setattr(open_clip, "create_model", record)
    path = tmp_path / "weights.safetensors"
    path.touch()
    for model, quick in (("ViT-L-14/openai", True), ("ViT-L-14/laion2b_s32b_b82k", False)):
        with pytest.raises(ConfigError):
            load_clip(ClipModelConfig(model=model, checkpoint=path))
        assert seen["force_quick_gelu"] is quick
        assert seen["weights_only"] is True
        assert seen["pretrained"] == str(path.resolve())
    # This tag of LAION was trained with its own mean and std.
    assert seen["force_preprocess_cfg"]["mean"] == (0.5, 0.5, 0.5)  # type: ignore[index]


def test_weights_that_cannot_be_downloaded_are_told_with_the_way_around(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import open_clip

    def offline(*_: object, **__: object) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(open_clip.factory, "download_pretrained", offline)
    with pytest.raises(MachineError, match=r"--clip\.checkpoint FILE"):
        load_clip(ClipModelConfig(model="ViT-B-32/openai"))


@pytest.mark.parametrize("resnet", [False, True], ids=["vit", "resnet"])
def test_half_the_digits_give_nearly_the_same_direction(
    resnet: bool, clip_folder: Callable[..., Path], photograph: NDArray[np.uint8]
) -> None:
    from tests.reward.clip.conftest import TINY, TINY_RESNET

    folder = clip_folder(config=TINY_RESNET if resnet else TINY)
    model = load_clip(ClipModelConfig(model=f"local-dir:{folder}"))
    images = np.stack([photograph[k : k + 64, k : k + 64] for k in (0, 100, 200)])
    found = {}
    for precision in ("fp32", "bf16"):
        (encoder,) = open_clip_encoders(model, EncodingConfig(precision=precision, devices=("cpu",)))
        found[precision] = encoder.encode(images)
        assert found[precision].dtype == np.float32
    units = [f / np.linalg.norm(f, axis=1, keepdims=True) for f in found.values()]
    assert (units[0] * units[1]).sum(axis=1).min() > 0.999


def test_precision_follows_the_slowest_device_and_devices_are_checked() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 0)
    native = torch.cpu.get_capabilities()
    bf16 = bool(native.get("avx512_bf16") or native.get("amx_bf16"))
    assert pick_precision("auto", (cpu,)) == ("bf16" if bf16 else "fp32")
    assert pick_precision("auto", (gpu, gpu)) == "fp16"
    assert pick_precision("auto", (gpu, cpu)) == pick_precision("auto", (cpu,))
    with pytest.raises(ConfigError, match="fp16 is for GPUs"):
        pick_precision("fp16", (cpu,))
    with pytest.raises(ConfigError, match="torch does not know it"):
        pick_devices(("gpu7",))
    with pytest.raises(ConfigError, match="torch sees"):
        pick_devices((f"cuda:{torch.cuda.device_count()}",))


def test_the_bench_measures_three_ways_and_judges_its_bounds(
    arch: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import json

    from bench.clip import ClipBenchConfig, main

    assert main(ClipBenchConfig(model=arch, batch=2, turns=2, height=16, width=16)) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    figures = report["figures"]
    assert min(figures[f"{way}_hz"] for way in ("bare_fp32", "bare", "reward")) > 0
    assert figures["projection_error"] < 1e-6
    assert figures["feature_cosine_to_fp32"] > 0.999
    # A model this small is all overhead, so speed is not judged here, but the verdict must follow the bounds.
    assert report["holds"] is all(
        bound.get("at_least", -1) <= figures[key] <= bound.get("at_most", float("inf"))
        for key, bound in report["bounds"].items()
    )
