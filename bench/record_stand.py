"""A test stand for the recorder: generators and recorder as processes of one ROS domain, a node beside."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from rclpy.node import Node

from bench.domain import own_domain
from episodes.errors import StackError
from ros_nodes.loop import TakeLoop
from ros_nodes.processes import PARENT_VARIABLE
from ros_nodes.recorder.remote import RemoteRecorder
from ros_nodes.recorder.status import RECORDING

START_S = 60.0
END_S = 60.0
ANSWER_S = 10.0


@dataclass(frozen=True)
class Sensor:
    """One generator of `bench.record_robot`, and the stream that it fills."""

    stream: str
    arguments: tuple[str, ...]
    """Sub-command and options."""
    entry: Mapping[str, object]
    """The stream in the contract."""


def camera(
    stream: str, height: int, width: int, kind: str = "rgb8", rate_hz: float = 30.0, seed: int = 0
) -> Sensor:
    """A camera with noise; `kind` as in `bench.record_robot`."""
    topic = f"camera/{stream}/image_raw"
    depth = {"16UC1": "uint16", "32FC1": "float32"}.get(kind)
    entry: dict[str, object] = {
        "topic": topic,
        "type": f"sensor_msgs/msg/{'CompressedImage' if kind == 'jpeg' else 'Image'}",
        "shape": [height, width, 1 if depth or kind == "mono8" else 3],
        "align": "nearest",
        "max_age_ms": 100,
    }
    if depth:
        entry["dtype"] = depth
    arguments = ("camera", "--topic", topic, "--height", str(height), "--width", str(width), "--kind", kind)
    return Sensor(stream, (*arguments, "--rate-hz", str(rate_hz), "--seed", str(seed)), entry)


def joints(
    stream: str = "state", rate_hz: float = 100.0, names: Sequence[str] = ("j0", "j1", "j2")
) -> Sensor:
    """Joint states."""
    entry = {
        "topic": "joint_states", "type": "sensor_msgs/msg/JointState", "field": "position",
        "names": list(names), "align": "linear", "max_age_ms": 50,
    }  # fmt: skip
    return Sensor(stream, ("joints", "--rate-hz", str(rate_hz), "--names", *names), entry)


def contract_text(sensors: Sequence[Sensor]) -> str:
    """A contract with these streams, led by hand: the action is the next measured state of the joints."""
    state = next(sensor for sensor in sensors if sensor.arguments[0] == "joints")
    names = state.entry["names"]
    assert isinstance(names, list)
    return yaml.safe_dump(
        {
            "robot": "noise",
            "rate_hz": 20,
            "reference": state.stream,
            "observations": {sensor.stream: dict(sensor.entry) for sensor in sensors},
            "actions": {
                "arm": {
                    "kind": "joint_position",
                    "topic": "arm/commands",
                    "type": "std_msgs/msg/Float64MultiArray",
                    "names": names,
                    "record_from": "next_state",
                    "measured_by": state.stream,
                    "lower": [-10.0] * len(names),
                    "upper": [10.0] * len(names),
                    "max_velocity": [1.0] * len(names),
                }
            },
        },
        sort_keys=False,
    )


@dataclass
class Stand:
    """Running processes, and a node in this one."""

    folder: Path
    environment: Mapping[str, str]
    node: Node
    loop: TakeLoop
    generators: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    logs: dict[str, Path] = field(default_factory=dict)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    """All that were started; what still runs at the end is ended."""

    def generate(self, sensor: Sensor) -> subprocess.Popen[bytes]:
        """Start a sensor."""
        self.logs[sensor.stream] = log = self.folder / f"{sensor.stream}.json"
        words = ["bench.record_robot", *sensor.arguments, "--log", str(log)]
        self.generators[sensor.stream] = process = self._start(words, sensor.stream)
        return process

    def record(
        self, *, wrapper: Sequence[str] = (), **parameters: str | int | float
    ) -> tuple[subprocess.Popen[bytes], RemoteRecorder]:
        """Start a recorder with these parameters beside the stand's contract and dataset.

        `wrapper` is a command that runs the one behind it in its place, as `nice` and `unshare` do.
        """
        values = {
            "contract": str(self.folder / "contract.yaml"),
            "dataset": str(self.folder / "dataset"),
            **parameters,
        }
        file = self.folder / "recorder.yaml"
        file.write_text(yaml.safe_dump({"/**": {"ros__parameters": values}}))
        words = ["ros_nodes.recorder_node", "--ros-args", "--params-file", str(file)]
        process = self._start(words, "recorder", wrapper)
        return process, RemoteRecorder(self.node, self.loop)

    def start_module(self, module: str, *words: str) -> subprocess.Popen[bytes]:
        """Start a node's module with these ROS arguments; its log has the module's name."""
        return self._start([module, "--ros-args", *words], module)

    def _start(self, words: Sequence[str], name: str, wrapper: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        root = str(Path(__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, [root, self.environment.get("PYTHONPATH")]))
        with open(self.folder / f"{name}.log", "ab") as output:
            process = subprocess.Popen(
                [*wrapper, sys.executable, "-m", *words],
                env={**self.environment, "PYTHONPATH": path, PARENT_VARIABLE: str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.processes.append(process)
        return process

    def log(self, name: str) -> str:
        """What a process has printed."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def start(self, recorder: RemoteRecorder) -> str:
        """Begin an episode as soon as the recorder lets us; returns its path.

        Raises:
            StackError: it does not within a minute.
        """
        deadline_ns = time.monotonic_ns() + round(START_S * 1e9)
        started, text = False, "it does not say anything"
        # A recorder that was killed before still has its services in the graph: wait until this one is heard.
        self.loop.spin_until(lambda: recorder.status is not None, deadline_ns)
        while not started and time.monotonic_ns() < deadline_ns:
            with contextlib.suppress(StackError):
                started, text = recorder.call("start", ANSWER_S)
            status = recorder.status
            if not started and status is not None and status.state == RECORDING and status.path:
                return status.path  # an answer that came too late
            if not started:
                self.loop.spin_once(20_000_000)
        if not started:
            raise StackError(f"the recorder did not start an episode: {text}\n{self.log('recorder')}")
        return text

    def stamps(self, stream: str) -> list[int]:
        """End a generator and return the stamps that it published, ns."""
        end(self.generators[stream])
        return [int(stamp) for stamp in json.loads(self.logs[stream].read_text())]


def end(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGINT) -> int:
    """Send a signal, after a minute SIGKILL, and wait for the end; returns the exit code."""
    if process.poll() is None:
        process.send_signal(number)
    try:
        return process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


@contextlib.contextmanager
def stand(
    folder: Path, sensors: Sequence[Sensor], purpose: str, contract: str | None = None
) -> Iterator[Stand]:
    """A stand with these sensors; everything is ended when the block is left.

    Args:
        folder: for contract, dataset and logs.
        sensors: what is generated.
        purpose: of the ROS domain, for whoever finds it taken.
        contract: its text; None for that of the sensors, led by hand.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "contract.yaml").write_text(contract_text(sensors) if contract is None else contract)
    with contextlib.ExitStack() as stack:
        environment, node = stack.enter_context(own_domain(purpose, folder, len(sensors) + 2, "stand"))
        made = Stand(folder, environment, node, TakeLoop(node))
        stack.callback(lambda: [end(process) for process in reversed(made.processes)])
        for sensor in sensors:
            made.generate(sensor)
        yield made
