"""Limits that came later leave old hashes alone, and are compared like the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from episodes.contract import check_compatible, load_contract, looser_limits, parse_contract
from episodes.errors import ContractError

CONTRACTS = Path(__file__).parents[2] / "launch" / "contracts"
TEXT = (CONTRACTS / "ur5e_realsense.yaml").read_text(encoding="utf-8")


def test_the_hash_of_a_contract_from_before_jerk_and_kinematics_is_what_it_was() -> None:
    contract = load_contract(CONTRACTS / "sawyer_sim.yaml")
    # Written into the first bundles and data sets.
    assert contract.limits_sha256.startswith("4324408e3e654df7")
    assert contract.interface_sha256.startswith("e92fb01863374944")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("max_jerk: [15.0,", "max_jerk: [16.0,", r"arm\.max_jerk\[shoulder_pan_joint\] 16 is looser than 15"),
        ("max_jerk: [15.0, 15.0, 15.0, 25.0, 25.0, 25.0]", "", r"arm\.max_jerk is missing"),
        ("[0.75, 0.75, 0.80]", "[0.75, 0.75, 0.90]", r"arm\.workspace_upper\[z\] 0\.9 is looser than 0\.8"),
        ("xyz: [0, 0, 0.163]", "xyz: [0, 0, 0.1]", r"arm\.kinematics differ"),
    ],
)
def test_a_robot_with_a_looser_jerk_or_box_is_refused(old: str, new: str, message: str) -> None:
    trained = parse_contract(TEXT, "trained.yaml")
    assert old in TEXT
    robot = parse_contract(TEXT.replace(old, new), "robot.yaml")
    with pytest.raises(ContractError, match=message):
        check_compatible(trained, robot)
    check_compatible(trained, robot, allow_looser_limits=True)
    assert not looser_limits(trained, trained)
