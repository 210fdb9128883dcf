"""What a contract lets control do, before a robot moves: `python -m policy.runtime.check my_arm.yaml`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from episodes.contract import Contract, load_contract
from episodes.errors import ArmchairError
from policy.runtime.control import Controller
from policy.runtime.jerk import JerkBound
from policy.runtime.kinematics import Chain
from policy.runtime.limits import Limits, Vector

POSES = 4_000


def describe(contract: Contract) -> list[str]:
    """The lines that a person checks: range, speed, and how long and far each entry takes to stop.

    Raises:
        ConfigError: control cannot run this contract.
    """
    Controller(contract)
    limits = Limits.of(contract)
    stop_s, way = _stops(limits)
    lines = [
        f"{contract.robot}: {contract.action_dim} entries at {contract.rate_hz:g} Hz, "
        f"interface {contract.interface_sha256[:12]}, limits {contract.limits_sha256[:12]}",
        f"{'entry':<30}{'from':>9}{'to':>9}{'speed':>9}{'stops in':>11}{'after':>9}",
    ]
    for i, name in enumerate(contract.action_names):
        lines.append(
            f"{name:<30}{limits.lower[i]:>9.3f}{limits.upper[i]:>9.3f}{limits.velocity[i]:>9.3g}"
            f"{stop_s[i]:>9.2f} s{way[i]:>9.3f}"
        )
    return [*lines, *(f"note: {note}" for note in notes(contract, limits))]


def notes(contract: Contract, limits: Limits) -> list[str]:
    """What is allowed but should be meant."""
    found = []
    if not contract.estop and contract.simulation is None:
        found.append("no e-stop source is declared (key 'estop'): nothing but the hardware's stop is heard.")
    for name, channel in contract.actions.items():
        if channel.kind != "joint_position":
            continue
        if channel.max_acceleration is None:
            found.append(f"{name} has no max_acceleration: a stop is as sharp as the driver makes it.")
        if channel.max_deviation is None:
            found.append(f"{name} has no max_deviation: the command may run ahead of a blocked arm.")
        if channel.workspace_lower is None:
            found.append(
                f"{name} has no workspace box: nothing but joint limits keeps the tool off the table."
            )
        elif channel.kinematics is not None:
            chain, rng = Chain(channel.kinematics, channel.names), np.random.default_rng(0)
            tools = chain(rng.uniform(channel.lower, channel.upper, (POSES, channel.dim)))
            lower, upper = np.array(channel.workspace_lower), np.array(channel.workspace_upper)
            share = ((tools > lower) & (tools < upper)).all(axis=1).mean()
            found.append(
                f"{name}: the tool is in its box in {share:.0%} of the poses within the joint limits."
            )
    if np.isinf(limits.velocity).any() and all(
        c.kind != "cartesian_delta" for c in contract.actions.values()
    ):
        names = [n for n, v in zip(contract.action_names, limits.velocity, strict=True) if np.isinf(v)]
        found.append(f"no max_velocity on {', '.join(names)}: commands may jump through their whole range.")
    return found


def _stops(limits: Limits) -> tuple[Vector, Vector]:
    """Time (s) and way of a stop from full speed, per entry."""
    speed = np.where(np.isfinite(limits.velocity), limits.velocity, 0.0)
    lasts_s, way = speed / limits.acceleration, 0.5 * speed**2 / limits.acceleration
    bound = JerkBound(limits)
    if len(at := bound.index):
        zero = np.zeros(len(at))
        lasts_s[at], way[at] = bound.stop_s(speed[at], zero), bound.distance(speed[at], zero)
    return np.where(limits.stop_is_zero, 0.0, lasts_s), np.where(limits.stop_is_zero, 0.0, way)


def main(argv: Sequence[str]) -> int:
    """Print what each contract allows; 2 for one that cannot be used."""
    if not argv:
        print("usage: python -m policy.runtime.check CONTRACT.yaml …", file=sys.stderr)
        return 2
    for path in argv:
        try:
            print("\n".join(describe(load_contract(path))))
        except ArmchairError as error:
            print(error, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
