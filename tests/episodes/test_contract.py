"""The robot contract: what it refuses, and what its two hashes stand for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from episodes.contract import Contract, check_compatible, load_contract, parse_contract
from episodes.errors import ContractError

SHIPPED = sorted((Path(__file__).parents[2] / "launch" / "contracts").glob("*.yaml"))


def changed(text: str, old: str, new: str) -> Contract:
    assert old in text
    return parse_contract(text.replace(old, new), "changed.yaml")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_contract_is_valid(path: Path) -> None:
    contract = load_contract(path)
    assert contract.action_dim == len(contract.action_names) == len(contract.action_lower)
    assert contract.reference in contract.observations


def test_the_action_vector_stacks_channels_in_their_order(contract: Contract) -> None:
    assert contract.action_names == ("j0", "j1", "grip")
    assert contract.action_slices == {"arm": slice(0, 2), "gripper": slice(2, 3)}
    np.testing.assert_array_equal(contract.action_lower, [-1.5, -1.5, 0.0])
    np.testing.assert_array_equal(contract.action_upper, [1.5, 1.5, 1.0])
    assert contract.period_ns == 50_000_000


def test_a_wrong_joint_count_is_refused_with_key_and_counts(contract_text: str) -> None:
    with pytest.raises(ContractError, match=r"changed.yaml.*actions\.arm\.lower.*3 numbers for 2 names"):
        changed(contract_text, "lower: [-1.5, -1.5]", "lower: [-1.5, -1.5, -1.5]")


def test_an_unknown_key_is_refused_with_the_nearest_known_one(contract_text: str) -> None:
    with pytest.raises(ContractError, match=r"changed.yaml.*actions\.arm\.max_velocty.*'max_velocity'"):
        changed(contract_text, "max_velocity:", "max_velocty:")


def test_an_inverted_limit_is_refused_with_its_joint(contract_text: str) -> None:
    with pytest.raises(ContractError, match=r"changed.yaml.*actions\.arm\.lower.*j1.*under upper"):
        changed(contract_text, "upper: [1.5, 1.5]", "upper: [1.5, -2.0]")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("reference: front", "reference: frnt", r"reference.*'front'"),
        ("rate_hz: 20", "rate_hz: fast", r"rate_hz.*'fast'"),
        ("rate_hz: 20", "rate_hz: .nan", r"rate_hz"),
        ("rate_hz: 20", "rate_hz: 20\nrate_hz: 30", r"written twice"),
        ("lower: [-1.5, -1.5]", "lower: [-1.5, .inf]", r"actions\.arm\.lower.*finite"),
        ("align: linear", "align: cubic", r"observations\.state\.align.*'cubic'"),
        ("shape: [6, 8, 3], align: nearest", "shape: [6, 8, 3], align: linear", r"front.align.*never interp"),
        ("names: [j0, j1, j2],", "names: [j0, j1, j0],", r"listed twice"),
        ("kind: gripper", "kind: griper", r"actions\.gripper\.kind.*'gripper'"),
        ("names: [grip]", "names: [j0]", r"named twice"),
        ("topic: pose,", "topic: joint_states,", None),
        ("topic: arm/commands", "topic: gripper/commands", r"has it already"),
        ("robot: arm2", "robot: [1]", r"robot"),
        ("max_age_ms: 50,", "max_age_ms: -1,", r"state\.max_age_ms"),
        ("cameras: {front: front}", "cameras: {state: front}", r"cameras.*no image stream"),
    ],
)
def test_every_mistake_names_file_and_key(
    contract_text: str, old: str, new: str, message: str | None
) -> None:
    if message is None:
        assert changed(contract_text, old, new)
        return
    with pytest.raises(ContractError, match=r"(?s)changed\.yaml.*" + message):
        changed(contract_text, old, new)


def test_a_missing_file_is_named_with_what_lies_beside_it() -> None:
    with pytest.raises(ContractError, match=r"no_such\.yaml.*sawyer_sim\.yaml"):
        load_contract(SHIPPED[0].with_name("no_such.yaml"))


@pytest.mark.parametrize("text", ["", "- 1\n", "a: [", "robot: \x07"])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(ContractError, match=r"x\.yaml"):
        parse_contract(text, "x.yaml")


def test_the_order_of_names_is_part_of_the_interface(contract: Contract, contract_text: str) -> None:
    other = changed(contract_text, "names: [j0, j1],", "names: [j1, j0],")
    assert other.interface_sha256 != contract.interface_sha256
    with pytest.raises(ContractError, match=r"arm\.names"):
        check_compatible(contract, other)


def test_comments_and_white_space_change_neither_hash(contract: Contract, contract_text: str) -> None:
    other = parse_contract("# another comment\n\n" + contract_text.replace(": {", ":   {"), "b.yaml")
    assert other.interface_sha256 == contract.interface_sha256
    assert other.limits_sha256 == contract.limits_sha256
    check_compatible(contract, other)


def test_a_remapped_topic_changes_neither_hash(contract: Contract, contract_text: str) -> None:
    other = changed(contract_text, "topic: arm/commands", "topic: left/arm/commands")
    assert (other.interface_sha256, other.limits_sha256) == (
        contract.interface_sha256,
        contract.limits_sha256,
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("rate_hz: 20", "rate_hz: 25"),
        ("unit: rad}\n  pose", "unit: deg}\n  pose"),
        ("align: hold", "align: nearest"),
        ("shape: [6, 8, 3]", "shape: [8, 6, 3]"),
        ("kind: gripper", "kind: joint_velocity"),
        ("reference: front", "reference: state"),
    ],
)
def test_what_a_policy_depends_on_changes_the_interface(
    contract: Contract, contract_text: str, old: str, new: str
) -> None:
    other = changed(contract_text, old, new)
    assert other.interface_sha256 != contract.interface_sha256
    with pytest.raises(ContractError, match="interfaces differ"):
        check_compatible(contract, other, allow_looser_limits=True)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("upper: [1.5, 1.5]", "upper: [1.5, 1.6]", r"arm\.upper\[j1\] 1\.6"),
        ("lower: [-1.5, -1.5]", "lower: [-1.7, -1.5]", r"arm\.lower\[j0\] -1\.7"),
        ("max_velocity: [1.0, 1.0]", "max_velocity: [1.0, 1.1]", r"arm\.max_velocity\[j1\]"),
        ("max_age_ms: 50,", "max_age_ms: 60,", r"state\.max_age_ms 60"),
    ],
)
def test_looser_limits_are_refused_without_the_flag(
    contract: Contract, contract_text: str, old: str, new: str, what: str
) -> None:
    looser = changed(contract_text, old, new)
    assert looser.interface_sha256 == contract.interface_sha256
    assert looser.limits_sha256 != contract.limits_sha256
    with pytest.raises(ContractError, match=what):
        check_compatible(contract, looser)
    check_compatible(contract, looser, allow_looser_limits=True)
    check_compatible(looser, contract)
