"""Every family of environments over DDS, by its name alone, in every mode: as a real process."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from numpy.typing import NDArray
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_srvs.srv import Trigger

from episodes.contract import Contract, Source
from episodes.messages import to_ns
from ros_nodes import qos
from ros_nodes.commands import CommandPublisher
from ros_nodes.sim_services import standard_types
from ros_nodes.stacks import Sim
from sim.contracts import contract_of
from sim.make import make_env
from sim.randomise import Randomisation
from sim.world import World

from .conftest import NodeProcess, Peer
from .test_failures import call

T0_NS = 1_000_000_000
Start = Callable[..., NodeProcess]
FAMILIES = (
    "metaworld/reach-v3",
    "arm6/push",
    "softgym-equivalent/RopeFlattenEasy",
    "softgym-equivalent/ClothFoldDiagonal",
    "gymnasium/CartPole-v1",
    "vlmrm/Humanoid",
    "rl-vlm-f/CartPole",
)
triggers_only = pytest.mark.skipif(
    standard_types() is not None, reason="the names have simulation_interfaces' types here, not Trigger"
)


class Rig:
    """Hears all streams of a contract and answers ticks with the middle of each action's box."""

    def __init__(self, peer: Peer, sim: NodeProcess, contract: Contract) -> None:
        self.peer, self.sim, self.contract = peer, sim, contract
        self.stamps: dict[str, list[int]] = {name: [] for name in contract.observations}
        self.vectors: dict[str, list[list[float]]] = {name: [] for name in contract.observations}
        self.pictures: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in contract.observations}
        self.clock: list[int] = []
        self.status: list[dict[str, str]] = []
        self.action = (contract.action_lower + contract.action_upper) / 2.0
        self.commands = CommandPublisher(peer.node, contract)
        loop = peer.loop
        loop.subscribe(Clock, "/clock", qos.STREAM, lambda m: self.clock.append(to_ns(m.clock)))
        loop.subscribe(DiagnosticStatus, "sim/status", qos.LATCHED, self._note)
        streams = sorted(contract.observations.values(), key=lambda s: s.name == contract.reference)
        heard = [
            loop.subscribe(
                Image if s.is_image else JointState, s.topic, qos.RECORD_VECTORS, partial(self._hear, s.name)
            )
            for s in streams
        ]
        peer.matched(*heard)
        peer.until(lambda: call(peer, Trigger, "sim/ready")[0])

    def _note(self, message: DiagnosticStatus) -> None:
        self.status.append({"state": message.message, **{pair.key: pair.value for pair in message.values}})

    def _hear(self, name: str, message: JointState | Image) -> None:
        stamp_ns = to_ns(message.header.stamp)
        self.stamps[name].append(stamp_ns)
        if isinstance(message, Image):
            pixels = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
            self.pictures[name].append(pixels.copy())
        else:
            self.vectors[name].append(list(message.position))
        if name == self.contract.reference:
            self.commands.publish(
                self.action, stamp_ns=stamp_ns, observation_ns=stamp_ns, source=Source.SCRIPT
            )

    def ask(self, service: str) -> tuple[bool, str]:
        return call(self.peer, Trigger, f"sim/{service}")

    def set(self, **values: object) -> None:
        client = self.peer.loop.client(SetParameters, "sim/set_parameters")
        self.peer.until(client.service_is_ready)
        changes = [Parameter(key, value=value).to_parameter_msg() for key, value in values.items()]
        future = client.call_async(SetParameters.Request(parameters=changes))
        self.peer.until(future.done)
        assert all(result.successful for result in future.result().results)

    def play(self) -> dict[str, str]:
        """Let an episode run to its end; its last status."""
        self.set(state="playing")
        assert self.ask("set_simulation_state")[0]
        self.peer.until(lambda: bool(self.status) and self.status[-1]["state"] == "done")
        return self.status[-1]


def expected(
    contract: Contract, name: str, action: NDArray[np.float64], randomise: Randomisation, horizon: int
) -> list[dict[str, NDArray[np.float64]]]:
    """What episode 2 of seed 3 shows in process."""
    world = World(contract, make_env(name, horizon=horizon, randomise=randomise))
    try:
        world.reset(3, 2)
        seen = [world.samples()]
        while not world.over:
            world.apply(action)
            seen.append(world.samples())
    finally:
        world.close()
    return seen


def in_lockstep(peer: Peer, start: Start, name: str, horizon: int, randomise: Randomisation) -> Rig:
    """Run an episode by the standard's names and hold every number and pixel against the same in process."""
    contract = contract_of(name, None)
    action = (contract.action_lower + contract.action_upper) / 2.0
    seen = expected(contract, name, action, randomise, horizon)  # first: it compiles what the node needs
    options = {f"randomise.{key}": value for key, value in randomise.as_dict().items()}
    sim = start("sim_node", environment=name, horizon=horizon, seed=3, episode=2, **options)
    rig = Rig(peer, sim, contract)
    features = json.loads(rig.ask("get_simulator_features")[1])
    assert "STEP_SIMULATION_MULTIPLE" in features["features"]
    assert name in features["custom_info"]
    assert rig.ask("get_simulation_state")[1] == "stopped"
    assert rig.ask("reset_simulation")[0]
    rig.set(steps=2 if horizon > 2 else 1)
    done, text = rig.ask("step_simulation")
    assert done, text
    if horizon > 2:
        assert text == "tick 2 reached"
        assert rig.ask("get_simulation_state")[1] == "paused"
        rig.play()
    ticks = [T0_NS + k * contract.period_ns for k in range(len(seen))]
    rig.peer.until(lambda: all(len(stamps) == len(ticks) for stamps in rig.stamps.values()))
    for stream in contract.observations.values():
        assert rig.stamps[stream.name] == ticks
        for k, sample in enumerate(seen):
            told = rig.pictures[stream.name][k] if stream.is_image else rig.vectors[stream.name][k]
            np.testing.assert_array_equal(told, sample[stream.name])
    assert rig.status[-1]["state"] == "done"
    return rig


def compiled(name: str) -> Contract:
    """The contract of an environment, once its kernels are compiled and its initial state is cached."""
    contract = contract_of(name, None)
    world = World(contract, make_env(name, horizon=2))
    world.reset(0, 0)
    world.apply((contract.action_lower + contract.action_upper) / 2.0)
    world.close()
    return contract


def asfast(peer: Peer, start: Start, name: str, horizon: int) -> Rig:
    """Run an episode without a pace, on simulated time. A listener that is not run loses messages, since
    nobody is waited for; what comes lies on the grid, and the last of it comes."""
    contract = compiled(name)
    rig = Rig(peer, start("sim_node", environment=name, mode="asfast", horizon=horizon), contract)
    done = rig.play()
    ticks = int(done["ticks"])
    assert 1 <= ticks <= horizon
    for stream in contract.observations.values():
        stamps, last = rig.stamps[stream.name], T0_NS + (ticks - 1) * contract.period_ns
        rig.peer.until(lambda stamps=stamps, last=last: bool(stamps) and stamps[-1] >= last)  # type: ignore[misc]
        assert (np.diff(stamps) > 0).all()
    # The arm's joints and cameras have rates of their own; what only a simulation knows comes once per tick.
    at_ticks = np.array(rig.stamps["state"]) - T0_NS
    assert not (at_ticks % contract.period_ns).any()
    rig.peer.until(lambda: bool(rig.clock) and rig.clock[-1] >= T0_NS + ticks * contract.period_ns)
    assert float(done["real_time_factor"]) > 0.0
    return rig


@triggers_only
def test_an_environment_runs_in_lockstep_by_its_name_randomised_by_seed_and_episode(
    peer: Peer, start: Start
) -> None:
    noisy = Randomisation(noise=0.05, pixel_noise=0.02, latency_steps=2)
    in_lockstep(peer, start, "rl-vlm-f/CartPole", 6, noisy)


@triggers_only
def test_an_environment_runs_as_fast_as_it_goes_and_shows_faults(peer: Peer, start: Start) -> None:
    rig = asfast(peer, start, "gymnasium/MountainCarContinuous-v0", 40)
    rig.set(driver_fault="silent")
    assert rig.ask("reset_simulation")[0]
    before = len(rig.stamps["state"])
    shown = len(rig.stamps["screen"])
    rig.set(steps=5)
    assert rig.ask("step_simulation")[0]
    rig.peer.until(lambda: len(rig.stamps["screen"]) >= shown + 5)
    assert len(rig.stamps["state"]) == before, "an environment without a driver loses its vectors"
    rig.set(state="quitting")
    assert rig.ask("set_simulation_state")[0]
    assert rig.sim.finish()[0] == 0


@triggers_only
@pytest.mark.long
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_runs_in_lockstep_as_in_process(peer: Peer, start: Start, name: str) -> None:
    in_lockstep(peer, start, name, 1 if "Diagonal" in name else 6, Randomisation())


@triggers_only
@pytest.mark.long
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_runs_as_fast_as_it_goes(peer: Peer, start: Start, name: str) -> None:
    asfast(peer, start, name, 1 if "Diagonal" in name else 12)


@triggers_only
@pytest.mark.long
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_runs_in_real_time_with_a_factor(peer: Peer, start: Start, name: str) -> None:
    contract = compiled(name)
    rig = Rig(
        peer,
        start(
            "sim_node", environment=name, mode="realtime", horizon=1 if "Diagonal" in name else 12,
            speed=0.5, publish_clock=True,
        ),
        contract,
    )  # fmt: skip
    done = rig.play()
    ticks = int(done["ticks"])
    reference = rig.stamps[contract.reference]
    rig.peer.until(
        lambda: len(reference) >= (ticks if contract.observations[contract.reference].is_image else ticks + 1)
    )
    assert (np.diff(reference) > 0).all()
    assert set(reference) <= set(rig.clock)
    wall_s, simulated_s = float(done["wall_s"]), ticks * contract.period_ns / 1e9
    assert wall_s >= 1.9 * simulated_s, "half as fast as the clock on the wall, or slower where it must be"


def test_up_sim_makes_a_contract_for_an_environment_that_has_none(tmp_path: Path) -> None:
    (sim,) = Sim(env="rl-vlm-f/CartPole", mode="asfast").processes(tmp_path)
    assert sim.parameters["contract"] == str(tmp_path / "contract.yaml")
    assert sim.parameters["horizon"] == 100
    assert contract_of("", tmp_path / "contract.yaml") == contract_of(
        "", Path(str(sim.parameters["contract"]))
    )
    assert (tmp_path / "contract.yaml").read_text().startswith("# rl-vlm-f/CartPole")
    (arm,) = Sim(env="arm6/push", speed=2.0).processes(tmp_path)
    assert str(arm.parameters["contract"]).endswith("launch/contracts/arm6_sim.yaml")
    assert (arm.parameters["publish_clock"], arm.parameters["speed"]) == (True, 2.0)
