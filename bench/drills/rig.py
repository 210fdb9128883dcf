"""A standing rig for drills: simulation, camera, e-stop button, policy, control as processes of one domain.

The arm is `arm6` in real time. Camera `side` is a process of its own, so that it can be killed; the others
are drawn by the simulation, whose parameters make them fail. Control runs at 200 Hz.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.domain import own_domain
from bench.drills.crew import Crew
from bench.drills.network import Kind, write_bundle
from bench.drills.services import PATIENCE_NS, Services
from bench.drills.watch import Watch
from bench.lockstep import write_small_bundle
from episodes.contract import Contract, load_contract
from episodes.errors import StackError
from episodes.messages import COMMAND_TOPIC
from ros_nodes.commands import CHUNK_TOPIC
from ros_nodes.loop import TakeLoop
from ros_nodes.stacks import launch_folder
from ros_nodes.stacks.process import Value
from ros_nodes.teleop.messages import ENABLE_TOPIC, TELEOP_TOPIC

LENGTH = 4
"""Actions in a chunk: with 20 Hz the arm is without a plan 0.25 s after the last one."""
ESTOP = "estop"
STUMBLES = 4
DEADMAN_BEATS = 25
PATIENT_S = 5.0
"""Silence of a node after which the supervisor presses the e-stop: what control itself notices is drilled."""
BURIAL_SAMPLES = 60
"""How many samples of the arm's motion later all others have noticed too."""
INTERPOLATION_S = 0.1
"""Time in which the simulated driver goes to a command. In the 20 ms that it takes by itself at 200 Hz, one
command that comes a period late would be more than the acceleration limit."""
FAST = 0.6
"""Share of its speed limit at which the arm counts as moving fast."""
KINDS = {
    "circles": Kind(),
    "still": Kind("still", still=True),
    "nan": Kind("nan", broken=float("nan")),
    "huge": Kind("huge", broken=1e6),
}


@dataclass(frozen=True)
class Setup:
    """What stands in the rig."""

    contract: str = "arm6_sim"
    """Name of the contract in launch/contracts; an e-stop is added."""
    rate_hz: float = 200.0
    """Of control."""
    sim_time: bool = False
    """Whether everything runs on the simulation's /clock."""
    own_camera: str = "side"
    """Camera that is a process of its own, where the contract has it."""


class Rig:
    """The running processes, and what is known of them."""

    def __init__(self, setup: Setup, folder: Path, environment: Mapping[str, str], loop: TakeLoop) -> None:
        self.setup, self.folder, self.loop = setup, folder, loop
        self.crew, self.services = Crew(folder, environment), Services(loop)
        content = yaml.safe_load((launch_folder() / f"contracts/{setup.contract}.yaml").read_text())
        content["estop"] = [ESTOP]
        self.contract = _written(content, folder / "robot.yaml")
        self._apart = setup.own_camera if setup.own_camera in self.contract.observations else ""
        for part in (content["observations"], content["simulation"].get("cameras", {})):
            part.pop(self._apart, None)
        self._sim_contract = _written(content, folder / "simulated.yaml")
        self.bundles = {
            name: write_bundle(folder / name, self.contract, LENGTH, kind) for name, kind in KINDS.items()
        }
        self.watch = Watch(loop, self.contract)
        self.stumbles: list[str] = []
        """Faults on the way to a fast motion."""
        self._dead: set[tuple[str, bytes]] = set()

    @staticmethod
    def now_ns() -> int:
        """The clock of all times here: the system's, in which messages are stamped when they are sent."""
        return time.time_ns()

    def start(self, name: str, module: str, **parameters: Value) -> None:
        """Start a node of the rig."""
        if self.setup.sim_time and name != "sim":
            parameters["use_sim_time"] = True
        self.crew.start(name, module, parameters)

    def start_sim(self) -> None:
        """The simulation."""
        self.start(
            "sim", "ros_nodes.sim_node", contract=self._sim_contract.source, mode="realtime", horizon=0,
            publish_clock=self.setup.sim_time, interpolation_s=INTERPOLATION_S,
        )  # fmt: skip

    def start_camera(self) -> None:
        """The camera that is a process of its own, if the contract has it."""
        if self._apart:
            stream = self.contract.observations[self._apart]
            self.start(
                "camera", "bench.control_camera", topic=stream.topic, height=stream.shape[0],
                width=stream.shape[1], rate_hz=self.contract.rate_hz,
            )  # fmt: skip

    def start_policy(self, bundle: Path | None = None) -> None:
        """The policy node, with the moving policy or another one."""
        self.start(
            "policy", "ros_nodes.policy_node", contract=self.contract.source, mode="realtime",
            bundle=str(bundle or self.bundles["circles"]),
        )  # fmt: skip

    def start_control(self) -> None:
        """The control node."""
        self.start(
            "control", "ros_nodes.control_node", contract=self.contract.source, mode="realtime",
            rate_hz=self.setup.rate_hz,
        )  # fmt: skip

    def start_pendant(self) -> None:
        """The e-stop button."""
        self.start("pendant", "bench.drills.pendant", topic=ESTOP)

    def start_impostor(self) -> None:
        """The impostor, which begins quietly."""
        self.start("impostor", "bench.drills.impostor", contract=self.contract.source)

    def appear(self, topic: str, wrong: str = "") -> int:
        """Let the impostor publish on `topic`; when its publisher was made."""
        self.watch.born.pop(topic, None)
        self.services.set("impostor", topic=topic, wrong=wrong)
        self.until(lambda: topic in self.watch.born, "the impostor")
        return self.watch.born[topic]

    def disappear(self) -> None:
        """Let the impostor publish nothing."""
        self.services.set("impostor", topic="", wrong="")

    def replace_policy(self) -> None:
        """The impostor in the policy's place."""
        if "policy" in self.crew:
            self.end("policy")
            self.appear(CHUNK_TOPIC)

    def own_policy(self) -> None:
        """The policy node in its own place."""
        if "policy" not in self.crew:
            self.disappear()
            self.start_policy()

    def start_operator(self) -> None:
        """A gamepad and the teleoperation node, with an open dead-man that everybody has heard: closed on
        arrival it counts for nothing."""
        if "gamepad" not in self.crew:
            self.start("gamepad", "bench.drills.gamepad")
        if "teleop" not in self.crew:
            self.start_teleop()
        self.hear_operator()

    def start_teleop(self) -> None:
        """The teleoperation node; a stick at its end means full speed."""
        self.start(
            "teleop", "ros_nodes.teleop_node", contract=self.contract.source, device="joystick",
            **{"speed.speed": 1.0},
        )  # fmt: skip

    def hear_operator(self) -> None:
        """Wait until the dead-man is heard, and both processes can be given their priorities."""
        self.until(lambda: self.is_up("gamepad") and self.is_up("teleop"), "the operator's processes")
        self.watch.beats = 0
        self.until(lambda: self.watch.beats >= DEADMAN_BEATS, "the operator's dead-man")

    def end_operator(self) -> None:
        """No operator any more."""
        self.end("teleop")
        self.end("gamepad")

    def start_recorder(self) -> None:
        """The recorder, with a dataset in the rig's folder."""
        self.start(
            "recorder", "ros_nodes.recorder_node", contract=self.contract.source,
            dataset=str(self.folder / "dataset"), task="go round", operator="drill",
        )  # fmt: skip

    def start_supervisor(self) -> None:
        """The supervisor; its heartbeat goes to the contract's e-stop topic."""
        self.start(
            "supervisor", "ros_nodes.supervisor_node", contract=self.contract.source,
            watch=("sim", "policy", "control"), silence_s=PATIENT_S,
        )  # fmt: skip

    def own_supervisor(self) -> None:
        """The supervisor as the e-stop's source, in the button's place."""
        self.own_policy()
        self.end("pendant")
        if "supervisor" not in self.crew:
            self.start_supervisor()

    def own_pendant(self) -> None:
        """The e-stop button in its own place; the supervisor's last word is a press, which is cleared."""
        if "supervisor" in self.crew:
            self.end("supervisor")
            self.start_pendant()
            self.until(lambda: self.watch.state == "FAULT", "FAULT at the supervisor's end")
            self.clear()

    def try_load(self, bundle: Path) -> tuple[bool, str]:
        """Ask the policy node to run another bundle."""
        self.services.set("policy", bundle=str(bundle))
        return self.services.trigger("policy/load")

    def load(self, kind: str) -> None:
        """Let the policy node run another bundle of the rig.

        Raises:
            StackError: it refuses.
        """
        accepted, why = self.try_load(self.bundles[kind])
        if not accepted:
            raise StackError(f"policy/load is refused: {why}")

    def foreign_bundle(self) -> Path:
        """A sound bundle of another robot."""
        folder = self.folder / "foreign"
        if not folder.exists():
            other = load_contract(launch_folder() / "contracts/sawyer_sim_state.yaml")
            write_small_bundle(folder, other)
        return folder

    def start_all(self) -> None:
        """Everything, side by side."""
        self.start_sim()
        self.start_camera()
        self.start_pendant()
        self.start_control()
        self.start_policy()
        self.start_impostor()

    def end(self, name: str) -> None:
        """End a process well, if it is there."""
        self.crew.end(name)
        self.services.forget(name)

    def kill(self, name: str) -> int:
        """SIGKILL; the time just before."""
        self._dead |= self._publishers(name)
        fault_ns = self.now_ns()
        self.crew.kill(name)
        self.services.forget(name)
        return fault_ns

    def bury(self) -> None:
        """Wait until nobody takes what was killed for living: its publishers stay in the graph for some time.
        Control refuses to work beside them, and is right, since it cannot know."""
        if self._dead:
            names = {name for name, _ in self._dead}
            self.until(
                lambda: not any(self._publishers(n) & self._dead for n in names), "the end of the dead"
            )
            self._dead.clear()
            self.more(BURIAL_SAMPLES)

    def _publishers(self, name: str) -> set[tuple[str, bytes]]:
        """(node, endpoint) of the publishers of a node on topics that are one node's alone."""
        actuators = [channel.topic for channel in self.contract.actions.values()]
        return {
            (name, bytes(info.endpoint_gid))
            for topic in (CHUNK_TOPIC, COMMAND_TOPIC, ESTOP, ENABLE_TOPIC, TELEOP_TOPIC, *actuators)
            for info in self.loop.node.get_publishers_info_by_topic(topic)
            if info.node_name == name
        }

    def hang(self, name: str) -> int:
        """SIGSTOP; the time just before."""
        fault_ns = self.now_ns()
        self.crew.hang(name)
        return fault_ns

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Let time pass until the condition holds.

        Raises:
            StackError: it does not within a minute; with the ends of the logs.
        """
        if not self.loop.spin_until(condition, time.monotonic_ns() + PATIENCE_NS):
            says = f"control says {self.watch.state or 'nothing'} {self.watch.fault}"
            raise StackError(f"{what} did not come; {says}\n{self.crew.tails()}")

    def is_up(self, name: str) -> bool:
        """Whether a node has come up."""
        return bool(self.loop.node.count_services(f"/{name}/set_parameters"))

    def more(self, count: int) -> None:
        """Until so many more samples of the arm's motion have come."""
        begin = len(self.watch.motion)
        self.until(lambda: len(self.watch.motion) >= begin + count, "the arm's motion")

    def reset(self) -> None:
        """Put the arm back to its beginning, and the worst values to nothing; control must be disabled."""
        accepted, why = self.services.trigger("sim/reset")
        if not accepted:
            raise StackError(f"sim/reset is refused: {why}")
        self.until(lambda: self.services.switch("sim/pause", False)[0], "the simulation")
        self.crew.prioritise(self.is_up)
        self.watch.forget()
        self.more(5)

    def enable(self) -> None:
        """Enable control as soon as the arm stands and control lets itself.

        The arm stands some tenths of a second later than its commands: control would begin where it is
        measured, while it is still on its way to the last command.
        """
        self.until(lambda: self.watch.stands, "a standing arm")
        why = ""

        def enabled() -> bool:
            nonlocal why
            accepted, why = self.services.switch("control/enable", True)
            return accepted

        try:
            self.until(enabled, "control")
        except StackError as error:
            raise StackError(f"control/enable is refused: {why}. {error}") from error

    def go(self) -> None:
        """Enable, and wait until the policy moves the arm fast.

        A fault on the way there is cleared, and it is tried again: on a busy machine a node that has just
        started may be late once. Each is kept in `stumbles`.

        Raises:
            StackError: it does not come to that.
        """
        watch = self.watch
        for _ in range(STUMBLES):
            self.enable()
            self.until(lambda: watch.state == "FAULT" or watch.pace > FAST, "a fast motion")
            if watch.state != "FAULT":
                return
            self.stumbles.append(watch.fault)
            self.clear()
        raise StackError(f"control says FAULT again and again: {'; '.join(self.stumbles)}")

    def disable(self) -> None:
        """Stop, and wait until nothing is sent any more; a fault on the way is cleared, and kept."""
        self.services.switch("control/enable", False)
        self.until(lambda: self.watch.state in ("DISABLED", "FAULT"), "DISABLED")
        if self.watch.state == "FAULT":
            self.stumbles.append(self.watch.fault)
            self.clear()

    def clear(self) -> None:
        """Clear the fault as soon as control lets it be cleared."""
        self.until(
            lambda: self.services.trigger("control/clear_fault")[0] or not self.watch.fault, "~/clear_fault"
        )
        self.until(lambda: self.watch.state == "DISABLED", "DISABLED")

    def limits_seen(self) -> dict[str, Any]:
        """What the simulation says of the arm's worst values since the reset."""
        found: dict[str, Any] = json.loads(self.services.trigger("sim/limits_seen")[1])
        return found


def _written(content: dict[str, Any], path: Path) -> Contract:
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return load_contract(path)


@contextlib.contextmanager
def rig(setup: Setup, folder: Path) -> Iterator[Rig]:
    """A rig with everything running; everything is ended when the block is left."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        environment, node = stack.enter_context(own_domain("fault drills", folder, 8, "drills"))
        made = Rig(setup, folder, environment, TakeLoop(node))
        stack.callback(made.crew.close)
        made.start_all()
        yield made
