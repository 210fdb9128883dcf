"""The shipped parameter files set parameters that the nodes have, with values of their types."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from ros_nodes.control_node import ControlNodeConfig
from ros_nodes.policy_node import PolicyConfig
from ros_nodes.recorder_node import RecorderConfig

PARAMS = Path(__file__).parents[2] / "launch" / "params"
NODES = {"control": ControlNodeConfig, "policy": PolicyConfig, "recorder": RecorderConfig}


@pytest.mark.parametrize("robot", ["ur5e_realsense", "dressing_arm7", "lowcost6"])
def test_each_robot_has_a_contract_and_parameters_that_its_nodes_know(robot: str) -> None:
    assert (PARAMS.parent / "contracts" / f"{robot}.yaml").is_file()
    nodes = yaml.safe_load((PARAMS / f"{robot}.yaml").read_text(encoding="utf-8"))
    assert set(nodes) == {f"/**/{name}" for name in NODES}
    for pattern, sections in nodes.items():
        defaults = {f.name: f.default for f in dataclasses.fields(NODES[pattern.removeprefix("/**/")])}
        for name, value in sections["ros__parameters"].items():
            assert name in defaults, f"{robot}.yaml: {pattern} has no parameter {name}"
            assert type(value) is type(defaults[name]), f"{robot}.yaml: {pattern}.{name}"
