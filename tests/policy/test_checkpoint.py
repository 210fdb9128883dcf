"""Checkpoints keep every bit, run no code, and are there whole or not at all."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from episodes.errors import DatasetError
from policy.checkpoint import Checkpoints, load_state, save_state

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
tensors = st.builds(
    lambda values, dtype: torch.tensor(values, dtype=dtype),
    st.lists(st.integers(0, 100), max_size=4),
    st.sampled_from([torch.float32, torch.float64, torch.int64, torch.uint8, torch.bfloat16]),
)
keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/"), max_size=5) | st.integers(
    0, 9
)
trees = st.recursive(
    plain | tensors,
    lambda node: (
        st.lists(node, max_size=3)
        | st.lists(node, max_size=3).map(tuple)
        | st.dictionaries(keys, node, max_size=3)
    ),
    max_leaves=8,
)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@given(st.dictionaries(st.sampled_from(["learner", "sampler", "rng"]), trees))
def test_any_tree_of_tensors_and_plain_values_comes_back_as_it_was(tmp_path_factory, tree) -> None:
    path = tmp_path_factory.mktemp("state") / "a.safetensors"
    save_state(path, tree, step=3)
    assert same(load_state(path), tree)


def test_an_optimiser_comes_back_bit_for_bit(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.randn(3))
    optimiser = torch.optim.Adam([weight], lr=1e-3, fused=True)
    weight.sum().backward()
    optimiser.step()
    save_state(tmp_path / "a.safetensors", {"optimiser": optimiser.state_dict()}, step=1)
    assert same(load_state(tmp_path / "a.safetensors")["optimiser"], optimiser.state_dict())


def test_special_floats_survive(tmp_path: Path) -> None:
    save_state(tmp_path / "a.safetensors", {"x": [math.inf, -0.0, math.nan, 5e-324]}, step=0)
    inf, zero, nan, tiny = load_state(tmp_path / "a.safetensors")["x"]
    assert inf == math.inf
    assert math.copysign(1, zero) == -1
    assert math.isnan(nan)
    assert tiny == 5e-324


def test_what_is_neither_tensor_nor_plain_is_refused_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="learner/0: set cannot be stored"):
        save_state(tmp_path / "a.safetensors", {"learner": [{1, 2}]}, step=0)
    assert not list(tmp_path.iterdir())


def test_the_newest_numbered_checkpoints_and_all_named_ones_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep_last=2)
    checkpoints.save({}, 5, "best")
    for step in (10, 20, 100_000_000, 40):
        checkpoints.save({}, step)
    assert checkpoints.names() == {"best": 5, "step-00000040": 40, "step-100000000": 100_000_000}
    checkpoints.save({}, 200_000_000, "final")
    assert checkpoints.newest() == tmp_path / "final.safetensors"


def test_keep_last_zero_keeps_all(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep_last=0)
    for step in range(5):
        checkpoints.save({}, step)
    assert len(checkpoints.names()) == 5


def test_a_run_without_checkpoints_has_no_newest(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "none", 1).newest() is None


def test_a_checkpoint_half_written_does_not_count(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep_last=2)
    path = checkpoints.save({"x": torch.ones(3)}, 1)
    (tmp_path / "step-00000002.safetensors.partial").write_bytes(path.read_bytes()[:50])
    assert checkpoints.newest() == path


@pytest.mark.parametrize("cut", [0, 4, 30, -1])
def test_a_truncated_checkpoint_is_refused_by_name(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "step-00000001.safetensors"
    save_state(path, {"x": torch.ones(300)}, step=1)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DatasetError, match=r"step-00000001\.safetensors: this checkpoint is damaged.*Delete"):
        load_state(path)


def test_a_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"x": torch.ones(2)}, tmp_path / "a.safetensors")
    with pytest.raises(DatasetError, match="its schema is None"):
        load_state(tmp_path / "a.safetensors")
    save_file({"x": torch.ones(2)}, tmp_path / "a.safetensors", {
        "schema": "armchair/checkpoint/1", "step": "1", "state": json.dumps({"tensor": "y"}),
    })  # fmt: skip
    with pytest.raises(DatasetError, match="damaged"):
        load_state(tmp_path / "a.safetensors")


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, 2)
    checkpoints.save({}, 7)
    with pytest.raises(DatasetError, match=r"final\.safetensors: there is no such.*step-00000007"):
        checkpoints.path("final")
