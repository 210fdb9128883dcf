"""A bundle is verified before anything in it is used, and every refusal says what to mend."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper

from episodes.contract import Contract, parse_contract
from episodes.errors import BundleError
from policy.runtime import bundle_files
from policy.runtime.bundle import Bundle, TensorSpec

Write = Callable[..., Bundle]


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "manifest.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def replace_file(folder: Path, name: str, data: bytes) -> None:
    """Exchange a file and the checksum that the manifest holds for it."""
    (folder / name).write_bytes(data)
    edit_manifest(folder, lambda m: m["files"].update({name: hashlib.sha256(data).hexdigest()}))


def test_a_bundle_that_was_written_loads_and_says_what_it_holds(write_bundle: Write, robot: Contract) -> None:
    written = write_bundle()
    loaded = Bundle.load(written.path, robot)
    assert loaded == written
    assert loaded.manifest.chunk_length == 2
    assert loaded.manifest.output == TensorSpec("action", "float32", (2, 3))
    assert loaded.contract.interface_sha256 == robot.interface_sha256
    assert (loaded.parity.samples, loaded.parity.tolerance) == (1000, 1e-5)
    assert loaded.model == (written.path / "policy.onnx").read_bytes()


def test_the_manifest_on_disk_has_the_published_layout(write_bundle: Write, robot: Contract) -> None:
    data = json.loads((write_bundle().path / "manifest.json").read_text())
    assert data["schema"] == "armchair/bundle/1"
    assert data["inputs"][0] == {"name": "state", "stream": "state", "dtype": "float32", "shape": [3]}
    assert data["outputs"] == [{"name": "action", "dtype": "float32", "shape": [2, 3]}]
    assert data["chunk"] == {"length": 2, "execute": 1}
    assert data["action_channels"][1] == {"name": "gripper", "kind": "gripper", "names": ["effort"]}
    assert data["interface_sha256"] == robot.interface_sha256
    assert set(data["files"]) == {"policy.onnx", "contract.yaml", "parity.json"}


def test_writing_again_replaces_the_whole_folder_and_leaves_nothing_behind(
    write_bundle: Write, tmp_path: Path
) -> None:
    first = write_bundle()
    (first.path / "left-over.bin").write_bytes(b"old")
    second = write_bundle(name="second")
    assert Bundle.load(second.path).manifest.name == "second"
    assert sorted(os.listdir(tmp_path)) == ["bundle"]
    assert not (second.path / "left-over.bin").exists()


def test_a_file_system_that_cannot_exchange_folders_replaces_them_in_two_moves(
    write_bundle: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bundle()
    monkeypatch.setattr(bundle_files.ctypes, "CDLL", lambda *_, **__: object())
    assert Bundle.load(write_bundle(name="second").path).manifest.name == "second"
    assert sorted(os.listdir(tmp_path)) == ["bundle"]


def test_a_bundle_that_would_be_refused_leaves_the_old_one_in_place(
    write_bundle: Write, tmp_path: Path
) -> None:
    write_bundle()
    with pytest.raises(BundleError, match=r"does not follow the trained network: largest difference 0\.5"):
        write_bundle(parity={"samples": 9, "max_abs_difference": 0.5, "tolerance": 1e-5, "holds": False})
    assert Bundle.load(tmp_path / "bundle").manifest.name == "tiny"
    assert sorted(os.listdir(tmp_path)) == ["bundle"]


def test_a_folder_with_other_things_is_never_replaced(write_bundle: Write, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "thesis.tex").write_text("years of work")
    with pytest.raises(BundleError, match="holds other things"):
        write_bundle()
    assert (tmp_path / "bundle" / "thesis.tex").read_text() == "years of work"


def test_a_parity_report_that_is_not_a_number_is_named(write_bundle: Write) -> None:
    with pytest.raises(BundleError, match="NaN here means"):
        write_bundle(
            parity={"samples": 9, "max_abs_difference": float("nan"), "tolerance": 1.0, "holds": True}
        )


def test_a_missing_folder_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"nowhere: there is no such bundle folder.*armchair export"):
        Bundle.load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["manifest.json", "policy.onnx", "contract.yaml", "parity.json"])
def test_a_missing_file_is_refused_with_its_name(write_bundle: Write, name: str) -> None:
    bundle = write_bundle()
    (bundle.path / name).unlink()
    with pytest.raises(BundleError, match=rf"bundle/{name}: .*cannot be read \(No such file"):
        Bundle.load(bundle.path)


@pytest.mark.parametrize("name", ["policy.onnx", "contract.yaml", "parity.json"])
def test_a_changed_byte_is_refused_with_both_checksums(write_bundle: Write, name: str) -> None:
    bundle = write_bundle()
    data = bytearray((bundle.path / name).read_bytes())
    data[-2] ^= 1
    (bundle.path / name).write_bytes(data)
    with pytest.raises(BundleError, match=rf"{name}: its sha256 is [0-9a-f]{{12}}…, but manifest.json"):
        Bundle.load(bundle.path)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../secret", "..\\secret"])
def test_a_path_that_leaves_the_folder_is_refused(write_bundle: Write, tmp_path: Path, name: str) -> None:
    bundle = write_bundle()
    (tmp_path / "secret").write_bytes(b"s")
    edit_manifest(bundle.path, lambda m: m["files"].update({name: hashlib.sha256(b"s").hexdigest()}))
    with pytest.raises(BundleError, match="not a path inside the bundle"):
        Bundle.load(bundle.path)


@pytest.mark.parametrize("name", ["policy.onnx", "manifest.json"])
def test_a_link_is_refused_even_when_its_target_is_right(
    write_bundle: Write, tmp_path: Path, name: str
) -> None:
    bundle = write_bundle()
    (bundle.path / name).rename(tmp_path / "elsewhere")
    (bundle.path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match=rf"{name}: this is a link"):
        Bundle.load(bundle.path)


def test_a_linked_subfolder_and_a_folder_in_the_place_of_a_file_are_refused(
    write_bundle: Write, tmp_path: Path
) -> None:
    bundle = write_bundle()
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "notes").write_bytes(b"n")
    (bundle.path / "extra").symlink_to(tmp_path / "extra")
    edit_manifest(bundle.path, lambda m: m["files"].update({"extra/notes": hashlib.sha256(b"n").hexdigest()}))
    with pytest.raises(BundleError, match=r"extra: this is a link"):
        Bundle.load(bundle.path)
    (bundle.path / "extra").unlink()
    (bundle.path / "extra" / "notes").mkdir(parents=True)
    with pytest.raises(BundleError, match="not an ordinary file"):
        Bundle.load(bundle.path)


def set_key(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for key in parents:
            data = data[int(key)] if isinstance(data, list) else data[key]
        if value is None:
            del data[last]
        else:
            data[last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schema", "armchair/bundle/9", "key 'schema' has the value 'armchair/bundle/9'"),
        ("schema", None, "key 'schema' is missing"),
        ("colour", "red", "unknown key 'colour'"),
        ("algoritm", "iql", "did you mean 'algorithm'"),
        ("name", 7, "key 'name' has the value 7"),
        ("rate_hz", "fast", "key 'rate_hz' has the value 'fast'"),
        ("rate_hz", 20, "key 'rate_hz' is 20.0, but the bundle's contract.yaml says 50.0"),
        ("chunk.length", 3, "key 'chunk.length' has the value 3: the output has room for 2"),
        ("chunk.execute", 3, "key 'chunk.execute' has the value 3: only 2"),
        ("chunk.execute", 0, "key 'chunk.execute' has the value 0"),
        ("inputs", [], "key 'inputs' has the value \\[\\]"),
        ("inputs.0.dtype", "float", "key 'inputs\\[0\\].dtype' has the value 'float': did you mean"),
        ("inputs.0.shape", [0], "key 'inputs\\[0\\].shape'"),
        (
            "inputs.0.shape",
            [4],
            "inputs.state.shape' is \\[4\\], but the bundle's contract.yaml says \\[3\\]",
        ),
        ("inputs.0.stream", "depth", "inputs.state.stream' is 'depth'"),
        ("inputs.1.dtype", "float32", "inputs.front.dtype' is 'float32'"),
        ("inputs.1.name", "state", "two inputs have this name"),
        ("outputs.0.name", "actions", "write 'action'"),
        ("files.policy.onnx", "1234", "sha256, 64 lower-case"),
        ("interface_sha256", "0" * 64, "key 'interface_sha256' is '000"),
        ("limits_sha256", "0" * 64, "key 'limits_sha256' is '000"),
        ("action_channels.0.names", ["dy", "dx"], "key 'action_channels' is .*'dy', 'dx'.*says.*'dx', 'dy'"),
        ("action_channels.0.kind", "twist", "key 'action_channels' is"),
        ("provenance", None, "key 'provenance' is missing"),
        ("providers", [], "key 'providers'"),
    ],
)
def test_a_wrong_manifest_is_refused_naming_key_and_value(
    write_bundle: Write, path: str, value: object, message: str
) -> None:
    bundle = write_bundle()
    change = set_key(path, value)
    if path == "files.policy.onnx":

        def change(data: dict[str, Any]) -> None:
            data["files"]["policy.onnx"] = value

    edit_manifest(bundle.path, change)
    with pytest.raises(BundleError, match=message) as caught:
        Bundle.load(bundle.path)
    assert "manifest.json" in str(caught.value)


@pytest.mark.parametrize("text", ["", "[1]", '{"schema": NaN}', '{"schema": 1, "schema": 2}', '{"a": '])
def test_a_manifest_that_is_no_json_object_is_refused(write_bundle: Write, text: str) -> None:
    bundle = write_bundle()
    (bundle.path / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match=r"manifest.json: this is"):
        Bundle.load(bundle.path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"holds": False}, "does not follow the trained network"),
        ({"max_abs_difference": 2e-5}, "largest difference 2e-05 over 1000 samples, tolerance 1e-05"),
        ({"samples": 0}, "key 'samples' has the value 0"),
        ({"tolerance": None}, "key 'tolerance' is missing"),
    ],
)
def test_a_parity_report_that_does_not_hold_is_refused(
    write_bundle: Write, change: dict[str, object], message: str
) -> None:
    bundle = write_bundle()
    report = json.loads((bundle.path / "parity.json").read_text()) | change
    replace_file(bundle.path, "parity.json", json.dumps(report).encode())
    with pytest.raises(BundleError, match=message) as caught:
        Bundle.load(bundle.path)
    assert "parity.json" in str(caught.value)


def test_a_damaged_contract_is_refused_with_the_contracts_own_words(write_bundle: Write) -> None:
    bundle = write_bundle()
    replace_file(bundle.path, "contract.yaml", b"robot: [")
    with pytest.raises(BundleError, match=r"contract.yaml: this is not valid YAML"):
        Bundle.load(bundle.path)


def test_a_robot_with_another_interface_is_refused_with_what_differs(
    write_bundle: Write, robot: Contract
) -> None:
    bundle = write_bundle()
    other = parse_contract(robot.text.replace("names: [a, b, c]", "names: [a, c, b]"), "robot.yaml")
    with pytest.raises(
        BundleError, match=r"robot.yaml.*interfaces differ: observations\.state\.names"
    ) as err:
        Bundle.load(bundle.path, other)
    assert "['a', 'c', 'b']" in str(err.value)


def test_a_stream_that_is_called_as_the_plan_of_a_policy_is_refused(
    write_bundle: Write, robot: Contract
) -> None:
    line = "  plan: {topic: plan, type: sensor_msgs/msg/JointState, names: [a], max_age_ms: 50}\n"
    other = parse_contract(robot.text.replace("observations:\n", f"observations:\n{line}"), "robot.yaml")
    with pytest.raises(BundleError, match=r"observation stream 'plan'.*Give the stream another name"):
        write_bundle(contract=other)


def test_looser_limits_are_refused_unless_they_are_allowed(write_bundle: Write, robot: Contract) -> None:
    bundle = write_bundle()
    looser = parse_contract(robot.text.replace("upper: [1, 1]", "upper: [2, 1]"), "robot.yaml")
    with pytest.raises(BundleError, match=r"arm.upper\[dx\] 2 is looser than 1"):
        Bundle.load(bundle.path, looser)
    assert Bundle.load(bundle.path, looser, allow_looser_limits=True) == bundle
    tighter = parse_contract(robot.text.replace("upper: [1, 1]", "upper: [0.5, 1]"), "robot.yaml")
    assert Bundle.load(bundle.path, tighter) == bundle


def test_bytes_that_are_no_graph_are_refused(write_bundle: Write, make_model: Callable[..., bytes]) -> None:
    bundle = write_bundle()
    for data in (b"", b"not onnx at all", make_model()[:-40]):
        replace_file(bundle.path, "policy.onnx", data)
        with pytest.raises(BundleError, match=r"policy.onnx: this is not an ONNX model"):
            Bundle.load(bundle.path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state": ["batch", 4]}, r"input 'state' has the shape \['batch', 4\] in the graph"),
        ({"state": ["batch", "n"]}, r"input 'state' has the shape \['batch', 'batch'\]"),
        ({"state": [8, 3]}, r"input 'state' has the shape \[8, 3\]"),
        ({"action": ["batch", 3]}, r"output 'action' has the shape"),
    ],
)
def test_a_graph_whose_shapes_differ_from_the_manifest_is_refused(
    write_bundle: Write, make_model: Callable[..., bytes], changes: dict[str, list[object]], message: str
) -> None:
    bundle = write_bundle()
    model = _with_shapes(make_model(), changes)
    replace_file(bundle.path, "policy.onnx", model)
    with pytest.raises(BundleError, match=message):
        Bundle.load(bundle.path)


def _with_shapes(model: bytes, changes: dict[str, list[object]]) -> bytes:
    proto = onnx.load_from_string(model)
    for info in (*proto.graph.input, *proto.graph.output):
        if info.name in changes:
            kind = info.type.tensor_type.elem_type
            info.CopyFrom(helper.make_tensor_value_info(info.name, kind, changes[info.name]))
    return bytes(proto.SerializeToString())


def test_a_graph_with_other_names_or_types_than_the_manifest_is_refused(
    write_bundle: Write, make_model: Callable[..., bytes]
) -> None:
    bundle = write_bundle()
    proto = onnx.load_from_string(make_model())
    proto.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    replace_file(bundle.path, "policy.onnx", proto.SerializeToString())
    with pytest.raises(BundleError, match="input 'state' is float64 in the graph, but float32 in"):
        Bundle.load(bundle.path)
    proto.graph.input[0].name = "proprio"
    replace_file(bundle.path, "policy.onnx", proto.SerializeToString())
    with pytest.raises(BundleError, match=r"inputs are \['front', 'proprio'\].*lists \['front', 'state'\]"):
        Bundle.load(bundle.path)


@pytest.mark.parametrize("place", ["weights.bin", "../../etc/shadow"])
def test_a_graph_that_reads_further_files_is_refused(
    write_bundle: Write, make_model: Callable[..., bytes], place: str
) -> None:
    with pytest.raises(BundleError, match=r"wants to read further files .*external_data=False") as caught:
        write_bundle(model=make_model(external=place))
    assert place in str(caught.value)


def test_a_bundle_never_shows_its_weights_when_printed(write_bundle: Write) -> None:
    assert len(repr(replace(write_bundle(), contract=None))) < 2000
