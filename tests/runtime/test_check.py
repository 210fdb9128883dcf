"""The check of a contract says what a person should know before the arm moves."""

from __future__ import annotations

from pathlib import Path

import pytest

from policy.runtime.check import main

CONTRACTS = Path(__file__).parents[2] / "launch" / "contracts"


def test_every_shipped_contract_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    paths = sorted(str(p) for p in CONTRACTS.glob("*.yaml"))
    assert main(paths) == 0
    told = capsys.readouterr().out
    # 1.5 rad/s at 6 rad/s² stops in 0.25 s after 0.1875 rad; with jerk it takes longer.
    assert "joint1                           -2.800    2.800      1.5     0.25 s    0.188" in told
    assert "shoulder_pan_joint               -6.200    6.200      0.8     0.63 s    0.253" in told
    assert "of the poses within the joint limits" in told


def test_what_is_missing_is_noted_and_what_is_wrong_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (CONTRACTS / "lowcost6.yaml").read_text(encoding="utf-8")
    bare = "\n".join(
        line for line in text.splitlines()
        if not line.strip().startswith(("estop:", "max_deviation", "max_acceleration", "workspace"))
    )  # fmt: skip
    path = tmp_path / "bare.yaml"
    path.write_text(bare.replace("on_timeout: decelerate", "on_timeout: hold"), encoding="utf-8")
    assert main([str(path)]) == 0
    told = capsys.readouterr().out
    for key in ("estop", "max_acceleration", "max_deviation", "workspace box"):
        assert key in told
    path.write_text(text.replace("kind: joint_position", "kind: joint_postion"), encoding="utf-8")
    assert main([str(path)]) == 2
    assert "did you mean 'joint_position'" in capsys.readouterr().err
    assert main([]) == 2
