"""A test stand for control: simulated arm, camera and policy as processes of one ROS domain, a node beside.

The arm is `arm6` in real time. Its camera is a process of its own (`bench.control_camera`, 640×480), so that
what is drawn costs the simulation nothing. Control is started and ended within the stand as often as needed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from diagnostic_msgs.msg import DiagnosticStatus
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool

from bench.control_net import HEIGHT, WIDTH, make_network, write_bundle
from bench.domain import own_domain
from episodes.contract import Contract, load_contract
from episodes.errors import StackError
from ros_nodes import dds, processes, qos
from ros_nodes.control_node import STATE_TOPIC
from ros_nodes.loop import TakeLoop
from ros_nodes.processes import Running
from ros_nodes.stacks import Process, launch_folder

RATE_HZ = 200.0
CAMERA_HZ = 30.0
PATIENCE_S = 60.0
HOME = (0.0, 0.2452, 1.4591, 0.0, 1.4373, 0.0, 0.075)
"""Home pose of arm6 (`sim.arm6.model`), gripper last."""


def bench_contract() -> str:
    """arm6 with one 640×480 camera and its joints. Ages are generous: starved processes must not end a leg
    with a fault before its figures are there."""
    content = yaml.safe_load((launch_folder() / "contracts/arm6_sim.yaml").read_text())
    joints = content["observations"]["joints"]
    front = content["observations"]["front"] | {"shape": [HEIGHT, WIDTH, 3]}
    content["observations"] = {
        "front": front | {"max_age_ms": 250},
        "joints": joints | {"max_age_ms": 500},
    }
    del content["simulation"]
    return yaml.safe_dump(content, sort_keys=False)


@dataclass
class Stand:
    """A running simulation, and what else there is to start."""

    folder: Path
    environment: Mapping[str, str]
    contract: Contract
    bundle: Path
    weights: Path
    loop: TakeLoop
    commanded: int = 0
    """Messages on the arm's actuator topic, whoever sent them."""
    client: Any = None
    """Of control/enable; control may be another process each time."""
    state: dict[str, str] = field(default_factory=dict)
    """The newest control/state: its values by key, and the state itself as 'state'."""

    @contextlib.contextmanager
    def running(self, *specs: Process, untuned: bool = False) -> Iterator[list[Running]]:
        """These processes until the block is left; `untuned`: without our settings for DDS and malloc."""
        environment = dict(self.environment)
        if untuned:
            for key in ("FASTRTPS_DEFAULT_PROFILES_FILE", *dds.MALLOC):
                environment.pop(key, None)
        with processes.running(specs, self.folder, environment) as started:
            yield started

    def camera(self, *, handed: bool = True) -> Process:
        """The camera; its pictures go through shared memory where `handed`, and over DDS alone elsewhere."""
        return Process("camera", "bench.control_camera", {"rate_hz": CAMERA_HZ, "handed": handed})

    def policy(self) -> Process:
        """The policy node on the CNN."""
        parameters = {
            "contract": self.contract.source, "bundle": str(self.bundle), "mode": "realtime", "threads": 1,
        }  # fmt: skip
        return Process("policy", "ros_nodes.policy_node", parameters)

    def control(self, timing: Path, *, priority: int) -> Process:
        """The control node at 200 Hz; `priority` 0 leaves the scheduler alone."""
        parameters = {
            "contract": self.contract.source, "mode": "realtime", "rate_hz": RATE_HZ,
            "rt_priority": priority, "timing_file": str(timing),
        }  # fmt: skip
        return Process("control", "ros_nodes.control_node", parameters)

    def plain(self, out: Path) -> Process:
        """The plain way, in one process."""
        parameters = {
            "weights": str(self.weights), "out": str(out), "period_ns": round(1e9 / RATE_HZ),
            "names": tuple(self.contract.action_names),
        }  # fmt: skip
        return Process("plain", "bench.control_plain", parameters)

    def enable(self, started: Sequence[Running]) -> None:
        """Enable control, and wait until it follows the policy.

        Raises:
            StackError: it does not within a minute; with the end of the logs.
        """
        self.state.clear()
        self.client = client = self.client or self.loop.client(SetBool, "control/enable")
        deadline_ns = self.patience_ns()
        why = "it does not answer"
        while self.state.get("state") != "POLICY" and time.monotonic_ns() < deadline_ns:
            if self.loop.spin_until(client.service_is_ready, deadline_ns):
                future = client.call_async(SetBool.Request(data=True))
                self.loop.spin_until(future.done, time.monotonic_ns() + 1_000_000_000)
                why = future.result().message if future.done() else why
            followed_ns = time.monotonic_ns() + 500_000_000
            self.loop.spin_until(lambda: self.state.get("state") == "POLICY", followed_ns)
        if self.state.get("state") != "POLICY":
            logs = "\n".join(process.tail() for process in started)
            raise StackError(f"control does not follow the policy: {why}. {self.state}\n{logs}")

    def patience_ns(self) -> int:
        """Until when to wait for a process that starts, monotonic ns."""
        return time.monotonic_ns() + round(PATIENCE_S * 1e9)

    def spin(self, seconds: float) -> None:
        """Let time pass, hearing what is published."""
        self.loop.spin_until(lambda: False, time.monotonic_ns() + round(seconds * 1e9))

    def count_command(self, message: Float64MultiArray) -> None:
        """Take a command of the arm."""
        self.commanded += 1

    def note(self, message: DiagnosticStatus) -> None:
        """Take a control/state."""
        self.state.update({"state": message.message, **{pair.key: pair.value for pair in message.values}})


@contextlib.contextmanager
def stand(folder: Path) -> Iterator[Stand]:
    """A stand with the simulation running; everything is ended when the block is left."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "contract.yaml").write_text(bench_contract())
    contract = load_contract(folder / "contract.yaml")
    network = make_network(contract, HOME)
    write_bundle(folder / "bundle", contract, network)
    torch.save(network.state_dict(), folder / "weights.pt")
    with contextlib.ExitStack() as stack:
        environment, node = stack.enter_context(own_domain("armchair bench control", folder, 6, "bench"))
        made = Stand(folder, environment, contract, folder / "bundle", folder / "weights.pt", TakeLoop(node))
        arm = contract.actions["arm"].topic
        made.loop.subscribe(Float64MultiArray, arm, qos.NEWEST, made.count_command)
        made.loop.subscribe(DiagnosticStatus, STATE_TOPIC, qos.LATCHED, made.note)
        sim = Process(
            "sim",
            "ros_nodes.sim_node",
            {
                "contract": str(launch_folder() / "contracts/arm6_sim_state.yaml"), "mode": "realtime",
                "autostart": True, "horizon": 10_000_000,
            },
        )  # fmt: skip
        stack.enter_context(made.running(sim))
        yield made
