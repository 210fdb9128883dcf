"""Frozen towers: their features, the run that is trained on them, and the bundle they stand in."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from episodes.errors import ConfigError, DatasetError
from policy.algorithms.bc import BCConfig
from policy.data import DataConfig, load_data
from policy.export import ExportConfig, export
from policy.run import load_policy
from policy.runtime.bundle import Bundle
from policy.runtime.infer import Policy
from policy.towers import Tower, TowerConfig, features, load_checkpoint, tower_sha256
from policy.train import train

TINY_CLIP = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 50, "width": 8, "heads": 1, "layers": 1},
}


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> TowerConfig:
    """A CLIP of a tiny size with the weights of all of it in one file, as open_clip writes them."""
    import open_clip

    folder = tmp_path_factory.mktemp("clip")
    (folder / "armchair-tiny.json").write_text(json.dumps(TINY_CLIP))
    open_clip.add_model_config(folder / "armchair-tiny.json")
    torch.manual_seed(3)
    model = open_clip.create_model("armchair-tiny", pretrained=None)
    torch.save({"state_dict": model.state_dict()}, folder / "clip.pt")
    return TowerConfig("open_clip", "armchair-tiny", folder / "clip.pt")


@pytest.fixture(scope="session")
def timm_tower(tmp_path_factory: pytest.TempPathFactory) -> TowerConfig:
    torch.manual_seed(4)
    config = TowerConfig("timm", "test_vit", tmp_path_factory.mktemp("timm") / "vit.safetensors")
    safetensors.torch.save_file(Tower(config).model.state_dict(), config.checkpoint)
    return config


def test_a_clip_tower_gives_what_open_clip_gives(clip) -> None:
    import open_clip

    tower = Tower(clip)
    load_checkpoint(tower, clip)
    model = open_clip.create_model("armchair-tiny", pretrained=None)
    model.load_state_dict(torch.load(clip.checkpoint, weights_only=True)["state_dict"])
    images = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (model.visual.image_mean, model.visual.image_std))
    with torch.no_grad():
        expected = model.eval().encode_image((images.permute(0, 3, 1, 2) / 255 - mean) / std)
    torch.testing.assert_close(tower(images), expected)
    assert tower.out_dim == 12
    assert not any(p.requires_grad for p in tower.parameters())
    assert not tower.train().training


@pytest.mark.parametrize("kind", ["clip", "timm_tower"])
def test_a_run_on_a_frozen_tower_exports_and_needs_the_checkpoint_no_more(
    kind, request, make_config, pictured, tmp_path: Path
) -> None:
    given = request.getfixturevalue(kind)
    copy = tmp_path / given.checkpoint.name
    copy.write_bytes(given.checkpoint.read_bytes())
    tower = dataclasses.replace(given, checkpoint=copy)
    config = make_config(
        algo=BCConfig(hidden=(8,)), data={"files": (pictured,), "streams": ("state", "front")}, tower=tower
    )
    train(config)
    copy.unlink()
    bundle = export(ExportConfig(config.run))
    assert [t.name for t in bundle.manifest.inputs] == ["state", "front"]
    assert bundle.parity.max_abs_difference <= bundle.parity.tolerance <= 1e-4
    rng = np.random.default_rng(0)
    policy, trained = Policy(Bundle.load(bundle.path)), load_policy(config.run)
    seen = {"state": rng.normal(size=3), "front": rng.integers(0, 256, (4, 5, 3), np.uint8)}
    action = policy.infer(seen)[0]
    np.testing.assert_allclose(action, trained.graph.act(seen), atol=1e-4)
    assert not np.array_equal(action, policy.infer(seen | {"front": 255 - seen["front"]})[0])
    weights = config.run / "tower.safetensors"
    broken = safetensors.torch.load_file(weights)
    broken["model.class_embedding" if kind == "clip" else "model.cls_token"] += 1.0
    safetensors.torch.save_file(broken, weights)
    with pytest.raises(DatasetError, match="not the weights that the run was trained with"):
        load_policy(config.run)


def test_features_belong_to_the_pictures_before_and_after_each_transition(clip, pictured) -> None:
    tower = Tower(clip)
    load_checkpoint(tower, clip)
    data = load_data(DataConfig(files=(pictured,), streams=("front",)))
    seen = data.pictures.observe(data.train)
    calls = []
    tower.register_forward_hook(lambda *_: calls.append(len(_[1][0])))
    here, ahead = features(tower, data.pictures, data.train, torch.device("cpu"))
    # Consecutive transitions share a picture: each is looked at once.
    assert sum(calls) == len(data.train.rewards) + data.episodes[0]
    torch.testing.assert_close(here, tower(seen.observations.images[0]))
    torch.testing.assert_close(ahead, tower(seen.next_observations.images[0]))


def test_a_tower_that_cannot_be_had_says_why(clip, make_config, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--tower.model nothing:"):
        Tower(TowerConfig("timm", "nothing"))
    with pytest.raises(ConfigError, match=r"--tower.model .*name a model of timm"):
        TowerConfig("timm")
    with pytest.raises(ConfigError, match="nothing is fetched"):
        load_checkpoint(Tower(clip), dataclasses.replace(clip, checkpoint=None))
    with pytest.raises(DatasetError, match=r"no\.pt: there is no such file"):
        load_checkpoint(Tower(clip), dataclasses.replace(clip, checkpoint=tmp_path / "no.pt"))
    (tmp_path / "text.pt").write_text("weights")
    with pytest.raises(DatasetError, match=r"text\.pt: this cannot be read as weights"):
        load_checkpoint(Tower(clip), dataclasses.replace(clip, checkpoint=tmp_path / "text.pt"))
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    with pytest.raises(DatasetError, match=r"list\.pt: it holds a list in the place of named tensors"):
        load_checkpoint(Tower(clip), dataclasses.replace(clip, checkpoint=tmp_path / "list.pt"))
    safetensors.torch.save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(
        DatasetError, match=r"other\.safetensors: \d+ of \d+ tensors of armchair-tiny are not"
    ):
        load_checkpoint(Tower(clip), dataclasses.replace(clip, checkpoint=tmp_path / "other.safetensors"))
    with pytest.raises(ConfigError, match=r"--tower.kind open_clip: name a camera"):
        train(make_config(algo=BCConfig(hidden=(8,)), tower=clip))


def test_the_hash_of_a_tower_is_that_of_its_weights(clip) -> None:
    one, other = Tower(clip), Tower(clip)
    assert tower_sha256(one) != tower_sha256(other)
    for tower in (one, other):
        load_checkpoint(tower, clip)
    assert tower_sha256(one) == tower_sha256(other)
