"""The gate for CI, as docs/ci.md shows it: a bundle that solves its task passes, one that does not fails."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

import armchair
from episodes.errors import ConfigError
from policy.runtime.bundle import TensorSpec, write_bundle_files
from sim.contracts import made_for
from sim.evaluation import EpisodeResult, summarise
from sim.make import make_env
from sim.rollout import RolloutConfig, below_bound

ENVIRONMENT = "gymnasium/MountainCarContinuous-v0"
PAGE = (Path(__file__).parents[2] / "docs" / "ci.md").read_text(encoding="utf-8")


def car_bundle(folder: Path, gain: float) -> Path:
    """Pushes the car the way it rolls (gain above 0), which swings it up the hill, or against it."""
    env = make_env(ENVIRONMENT)
    contract = made_for(env.spec, (), (84, 84))
    env.close()
    weights = numpy_helper.from_array(np.array([[0.0], [gain]], dtype=np.float32), "w")
    axis = numpy_helper.from_array(np.array([1], dtype=np.int64), "axis")
    nodes = [
        helper.make_node("MatMul", ["state", "w"], ["pushed"]),
        helper.make_node("Tanh", ["pushed"], ["bounded"]),
        helper.make_node("Unsqueeze", ["bounded", "axis"], ["action"]),
    ]
    graph = helper.make_graph(
        nodes,
        "car",
        [helper.make_tensor_value_info("state", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, ["batch", 1, 1])],
        [weights, axis],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    write_bundle_files(
        folder,
        name="car",
        algorithm="none",
        created_utc="2026-01-01T00:00:00+00:00",
        model=model.SerializeToString(),
        contract=contract,
        inputs=[TensorSpec("state", "float32", (2,), "state")],
        parity={"samples": 1, "max_abs_difference": 0.0, "tolerance": 1e-5, "holds": True},
        provenance={},
        chunk_length=1,
        chunk_execute=1,
    )
    return folder


def block(language: str) -> str:
    """The page's example in a language."""
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found.group(1)


def commands() -> list[list[str]]:
    """The words of every example's `armchair` command, after the program's name."""
    steps = yaml.safe_load(block("yaml"))["jobs"]["simulation"]["steps"]
    lines = [*block("sh").splitlines(), *(step.get("run", "") for step in steps)]
    found = [shlex.split(line) for line in lines if re.match(r"\S*armchair sim rollout", line)]
    assert len(found) == 2
    return [words[1:] for words in found]


def replaced(words: list[str], bundle: Path, folder: Path) -> list[str]:
    """An example's command for a bundle, with its files in `folder`, on few and short episodes."""
    words = [{"$1": str(bundle), "../robot/policy": str(bundle), "${2:-0.8}": "0.8"}.get(w, w) for w in words]
    for option in ("--out", "--video"):
        if option in words:
            at = words.index(option) + 1
            words[at] = str(folder / Path(words[at]).name)
    if "--video" in words:  # the contract has no camera to film with; films have tests of their own
        at = words.index("--video")
        del words[at : at + 2]
    words[words.index("--episodes") + 1] = "1"
    return [*words, "--horizon", "160"]


def test_the_documented_commands_pass_a_good_bundle_and_fail_a_bad_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = car_bundle(tmp_path / "good", 1e3), car_bundle(tmp_path / "bad", -1e3)
    for words in commands():
        assert armchair.main(replaced(words, good, tmp_path)) == 0
        assert "failed" not in capsys.readouterr().out
        assert armchair.main(replaced(words, bad, tmp_path)) == 1
        assert "failed: success rate 0.000 is below --at-least 0.8" in capsys.readouterr().out
        report = json.loads((tmp_path / "rollout.json").read_text())
        assert report["bound"] == {"at_least": 0.8, "on": "rate", "value": 0.0, "holds": False}
    assert armchair.main(["sim", "rollout", str(good), "--at-least", "80"]) == 2
    assert "a share" in capsys.readouterr().err


def result(success: bool) -> EpisodeResult:
    fields: dict[str, Any] = {"seed": 0, "episode": 0, "success_step": None, "return_": 0.0, "steps": 1}
    return EpisodeResult(success=success, clamps={}, **fields)


@pytest.mark.parametrize(
    ("successes", "episodes", "on", "holds"),
    [(16, 20, "rate", True), (15, 20, "rate", False), (19, 20, "lower", False), (20, 20, "lower", True)],
)
def test_the_bound_is_on_the_rate_or_on_the_lower_end_of_its_interval(
    successes: int, episodes: int, on: str, holds: bool
) -> None:
    summary = summarise([result(i < successes) for i in range(episodes)])
    config = RolloutConfig(Path("bundle"), at_least=0.8, bound_on=on)  # type: ignore[arg-type]
    assert (below_bound(config, summary) is None) == holds
    assert below_bound(RolloutConfig(Path("bundle")), summary) is None


def test_a_bound_that_is_no_share_is_refused() -> None:
    for bound in (-0.1, 1.5, float("nan")):
        with pytest.raises(ConfigError, match="--at-least"):
            RolloutConfig(Path("bundle"), at_least=bound)
