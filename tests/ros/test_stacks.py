"""Stacks as data: what they declare fits the nodes, the command line and the launch files."""

from __future__ import annotations

import ast
import dataclasses
import importlib
from pathlib import Path

import pytest
import yaml

import armchair
from episodes.errors import BundleError
from ros_nodes.parameters import field_docs
from ros_nodes.stacks import STACKS, CollectExpert, Deploy, DeploySim, Process, Record, Sim

from .conftest import CAMERA_CONTRACT, ROOT, STATE_CONTRACT


def every_process(bundle: Path, folder: Path) -> list[Process]:
    stacks = [
        CollectExpert(dataset=folder / "d"),
        DeploySim(bundle=bundle, contract=STATE_CONTRACT, dataset=folder / "d"),
        DeploySim(bundle=bundle, contract=STATE_CONTRACT),
        Sim(),
        Record(contract=CAMERA_CONTRACT, dataset=folder / "d"),
        Deploy(contract=STATE_CONTRACT, bundle=bundle, dataset=folder / "d"),
    ]
    return [process for stack in stacks for process in stack.processes(folder)]


def test_every_parameter_of_every_stack_is_one_that_its_node_has(state_bundle: Path, tmp_path: Path) -> None:
    for process in every_process(state_bundle, tmp_path):
        module = importlib.import_module(process.module)
        configs = [
            v for v in vars(module).values() if dataclasses.is_dataclass(v) and v.__module__ == process.module
        ]
        (config,) = [c for c in configs if c.__name__.endswith("Config")]
        fields = {field.name: field for field in dataclasses.fields(config)}  # type: ignore[arg-type]
        for name, value in process.parameters.items():
            assert name in fields, f"{process.name} has no parameter {name!r}"
            assert type(value) is type(fields[name].default), f"{process.name}: {name}"


def test_every_node_that_a_stack_names_is_in_the_stack(state_bundle: Path, tmp_path: Path) -> None:
    for stack in (
        CollectExpert(dataset=tmp_path / "d"),
        DeploySim(bundle=state_bundle, contract=STATE_CONTRACT, dataset=tmp_path / "d"),
        DeploySim(bundle=state_bundle, contract=STATE_CONTRACT),
    ):
        processes = stack.processes(tmp_path)
        names = {process.name for process in processes}
        for process in processes:
            for key in ("listeners", "nodes", "actors"):
                assert names.issuperset(process.parameters.get(key, ())), (process.name, key)


def test_every_option_and_every_parameter_says_what_it_means(state_bundle: Path, tmp_path: Path) -> None:
    for stack in STACKS.values():
        assert all(field_docs(stack).values()), stack
    for module in {process.module for process in every_process(state_bundle, tmp_path)}:
        for name, value in vars(importlib.import_module(module)).items():
            if name.endswith("Config") and value.__module__ == module:
                assert all(field_docs(value).values()), value


def test_a_bundle_that_is_not_there_is_refused_before_any_process_starts(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no such bundle folder"):
        DeploySim(bundle=tmp_path / "none").processes(tmp_path)


@pytest.mark.parametrize("path", sorted((ROOT / "launch").glob("*.launch.py")), ids=lambda p: p.name)
def test_a_launch_file_launches_the_stack_of_its_name(path: Path) -> None:
    tree = ast.parse(path.read_text())
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    (call,) = [n for n in ast.walk(functions["generate_launch_description"]) if isinstance(n, ast.Call)]
    assert ast.unparse(call.func) == "stack_description"
    name = path.name.removesuffix(".launch.py").replace("_", "-")
    assert ast.unparse(call.args[0]) == STACKS[name].__name__


@pytest.mark.parametrize("path", sorted((ROOT / "launch/params").glob("*.yaml")), ids=lambda p: p.name)
def test_a_parameter_file_holds_parameters_that_its_nodes_have(path: Path) -> None:
    for node, content in yaml.safe_load(path.read_text()).items():
        module = importlib.import_module(f"ros_nodes.{node.rsplit('/', 1)[1]}_node")
        (config,) = [
            v for k, v in vars(module).items() if k.endswith("Config") and v.__module__ == module.__name__
        ]
        fields = {field.name: field for field in dataclasses.fields(config)}  # type: ignore[arg-type]
        for key, value in content["ros__parameters"].items():
            assert type(value) is type(fields[key].default), (node, key)


def test_a_busy_domain_is_one_message_and_exit_code_2(
    domain: int, state_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["up", "--domain", str(domain), "--folder", str(tmp_path / "run"), "deploy-sim"]
    words += [str(state_bundle), "--contract", str(STATE_CONTRACT)]
    assert armchair.main(words) == 2
    error = capsys.readouterr().err
    assert f"ROS domain {domain} is in use on this machine by test" in error
    assert "Traceback" not in error


def test_a_contract_without_a_topic_is_one_message_and_exit_code_2(
    state_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    robot = tmp_path / "robot.yaml"
    robot.write_text(STATE_CONTRACT.read_text().replace("    topic: joint_states\n", ""))
    words = ["up", "deploy-sim", str(state_bundle), "--contract", str(robot)]
    assert armchair.main(words) == 2
    assert f"{robot}: key 'observations.joints.topic' is missing" in capsys.readouterr().err
