"""What a simulation in real time moves: an arm behind its driver, or an environment in whole steps."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from episodes.contract import Contract
from episodes.errors import ConfigError
from ros_nodes.sim_actuators import HoldingDriver, Inbox
from ros_nodes.sim_limits import braking
from sim.arm6.driver import DriverConfig, ForwardDriver
from sim.arm6.env import Arm6Env
from sim.world import World

STEP_NS = 5_000_000
"""Period of the arm's driver."""
CATCH_UP_NS = 250_000_000
"""How much the driver makes up for at once."""
DRIVER_STREAM = "joints"
"""The observation stream that a driver measures."""

Vector = NDArray[np.float64]


class Body(Protocol):
    """Moves a world in steps of `step_ns`; all times are simulated ones since the reset, ns."""

    step_ns: int
    catch_up_steps: int

    def attach(self, world: World) -> None:
        """A new episode has begun in `world`: forget all commands."""
        ...

    def receive(self, channel: str, values: Vector, now_ns: int) -> None:
        """The actuator message of a channel has come, values (channel dim,)."""
        ...

    def step(self, now_ns: int) -> bool:
        """Let one step pass from `now_ns` on; whether a tick of the world has ended."""
        ...

    def figures(self) -> dict[str, float]:
        """What its driver counts."""
        ...


class DrivenArm:
    """The arm's own driver, at 200 Hz: it takes what comes when it comes, as a ros2_control controller does.

    Args:
        contract: what control keeps to; the driver brakes by its accelerations when commands stop.
        timeout_ns: age of the newest command after which the driver holds.
        interpolation_ns: time in which it goes to a command. No shorter than their period; longer than it
            where they come faster than the contract's rate, since whatever is uneven in their stream passes
            as acceleration, with the inverse square of this.
    """

    step_ns = STEP_NS
    catch_up_steps = CATCH_UP_NS // STEP_NS

    def __init__(self, contract: Contract, timeout_ns: int, interpolation_ns: int) -> None:
        if contract.period_ns % STEP_NS:
            raise ConfigError(
                f"{contract.source}: a period of {contract.period_ns} ns is no whole number of the driver's "
                f"steps of {STEP_NS} ns."
            )
        self._contract = contract
        self._inbox = Inbox(contract, timeout_ns)
        brake = braking(contract)
        self._config = DriverConfig(
            interpolation_ns=interpolation_ns,
            timeout_ns=timeout_ns,
            deceleration=None if brake is None else tuple(brake.tolist()),
        )
        self._world: World | None = None
        self._env: Arm6Env | None = None

    @property
    def driver(self) -> ForwardDriver:
        """The driver of the present world."""
        return self._attached()[1].driver

    def attach(self, world: World) -> None:
        """See Body."""
        if not isinstance(world.env, Arm6Env):
            raise ConfigError(f"{world.env.spec.name} has no driver.")
        self._world, self._env = world, world.env
        self._inbox.reset()
        self._into_ns = 0
        self._env.driver.config = self._config
        self._env.driver.watch()

    def receive(self, channel: str, values: Vector, now_ns: int) -> None:
        """See Body."""
        self._inbox.receive(channel, values, now_ns)

    def step(self, now_ns: int) -> bool:
        """See Body."""
        world, env = self._attached()
        driver = env.driver
        command = self._inbox.take(world.in_contract_order(driver.setpoint), now_ns)
        driver.apply(None if command is None else world.in_env_order(command), now_ns)
        driver.advance(STEP_NS)
        self._into_ns += STEP_NS
        if self._into_ns < self._contract.period_ns:
            return False
        self._into_ns = 0
        world.accept(env.end_tick())
        return True

    def figures(self) -> dict[str, float]:
        """See Body."""
        driver, period_ns = self.driver, self._inbox.period_ns
        return {
            "holding": float(driver.holding),
            "holds": float(driver.holds),
            "refused": float(driver.refused),
            "command_hz": 1e9 / period_ns if period_ns else 0.0,
            "interpolation_ms": driver.config.interpolation_ns / 1e6,
        }

    def _attached(self) -> tuple[World, Arm6Env]:
        if self._world is None or self._env is None:
            raise RuntimeError("no world is attached: call attach first")
        return self._world, self._env


class WholeSteps:
    """An environment without a driver of its own: one of its steps at a time, with the newest command.

    A step that is late is left out: it would take longer than the time that it makes up for.
    """

    catch_up_steps = 0

    def __init__(self, contract: Contract, timeout_ns: int) -> None:
        self.step_ns = contract.period_ns
        self._driver = HoldingDriver(contract, timeout_ns)
        self._world: World | None = None

    def attach(self, world: World) -> None:
        """See Body."""
        self._world = world
        self._driver.reset()
        if (rest := world.env.spec.rest_action) is not None:
            self._driver.rest = world.in_contract_order(rest)

    def receive(self, channel: str, values: Vector, now_ns: int) -> None:
        """See Body."""
        self._driver.receive(channel, values, now_ns)

    def step(self, now_ns: int) -> bool:
        """See Body."""
        if self._world is None:
            raise RuntimeError("no world is attached: call attach first")
        self._world.apply(self._driver.action(now_ns))
        return True

    def figures(self) -> dict[str, float]:
        """See Body."""
        return {"holds": float(self._driver.holds)}


def steps_between(joint_rate_hz: float) -> int:
    """How many steps of the arm's driver lie between two joint states.

    Raises:
        ConfigError: the rate is no whole part of the driver's.
    """
    steps = 1e9 / STEP_NS / joint_rate_hz if joint_rate_hz > 0.0 else 0.0
    if steps < 1.0 or steps != int(steps):
        raise ConfigError(
            f"joint_rate_hz is {joint_rate_hz:g}: the driver runs at {1e9 / STEP_NS:g} Hz: write that or a "
            "whole part of it, such as 100."
        )
    return int(steps)
