"""Records every stream of the contract, and the commands, into episode files.

    subscribes  the observation topics of the contract, the topics that its actions are recorded from,
                episode/truth (lock-step)
    publishes   episode/status DiagnosticStatus (latched), recorder/ack Header (lock-step)
    services    ~/start ~/stop ~/success ~/failure ~/discard Trigger, ~/ready

A file is closed whatever happens: by SIGINT and SIGTERM as a failure, by a full disk as a failure, never as
a success that nobody declared. In lock-step a tick is acknowledged once all of it is here, so that the
simulation cannot run ahead.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rclpy.node import Node

from episodes.contract import load_contract
from episodes.dataset import Dataset
from episodes.errors import ArmchairError, ConfigError
from episodes.writer import EpisodeWriter
from ros_nodes import qos
from ros_nodes.loop import Reply, TakeLoop
from ros_nodes.parameters import current
from ros_nodes.recorder_sources import LockstepSources, RealtimeSources
from ros_nodes.recording import Recording
from ros_nodes.retake import make_way
from ros_nodes.shell import Readiness, is_lockstep, run_node
from sim.record import TRUTH
from sim.world import EPISODE_START_NS

STATUS_PERIOD_NS = 1_000_000_000


@dataclass(frozen=True)
class RecorderConfig:
    """Parameters of the recorder node."""

    contract: str = ""
    """Robot contract, a YAML file."""
    dataset: str = ""
    """Dataset folder; made if it is not there."""
    mode: str = "realtime"
    """'lockstep' (simulated time, every tick acknowledged) or 'realtime' (ROS time)."""
    task: str = ""
    """What the robot is to do, stored with each episode."""
    operator: str = ""
    """Who operates it, stored with each episode."""
    episode_id: str = ""
    """Id of the next episode; empty: a random one."""
    ended_by: str = "operator"
    """Termination reason of the next episode that is closed by a service."""
    image_storage: str = "lzf"
    """How pictures are stored: lzf, raw or jpeg."""
    buffer_mib: int = 256
    """Memory for samples that wait for the disk; beyond it they are dropped and counted."""
    listeners: tuple[str, ...] = ()
    """Nodes that must be there before the first tick."""


class RecorderNode:
    """One episode at a time, from ~/start to ~/success, ~/failure, ~/stop or ~/discard."""

    def __init__(self, node: Node, loop: TakeLoop, config: RecorderConfig) -> None:
        if not config.dataset:
            raise ConfigError("parameter 'dataset' is empty: give the folder that episodes go to.")
        self._node, self._loop, self._config = node, loop, config
        self._lockstep = is_lockstep(config.mode)
        self.contract = load_contract(config.contract)
        self._dataset = Dataset.open_or_create(config.dataset, self.contract)
        self._recording: Recording | None = None
        self._episodes = 0
        self._status = node.create_publisher(DiagnosticStatus, "episode/status", qos.LATCHED)
        self._sources = (LockstepSources if self._lockstep else RealtimeSources)(node, loop, self.contract)
        loop.trigger("~/start", self._start)
        outcome_source: Literal["sim", "operator"] = "sim" if self._lockstep else "operator"
        self._closing("~/success", lambda w: w.finish("success", outcome_source, self._reason()))
        self._closing("~/failure", lambda w: w.finish("failure", outcome_source, self._reason()))
        self._closing("~/stop", lambda w: w.finish("unknown", "none", self._reason()))
        self._closing("~/discard", lambda w: w.discard())
        self._readiness = Readiness(node, loop, config.listeners, self._sources.topics)
        self._report("idle")
        loop.at(0, self._tick_status)

    def _reason(self) -> str:
        return current(self._node, RecorderConfig).ended_by

    def _start(self, reply: Reply) -> None:
        if self._recording is not None:
            reply(False, f"{self._recording.path.name} is being recorded: close or discard it first")
            return
        missing = self._sources.missing()
        if missing:
            reply(False, f"nothing comes on {', '.join(missing)}: start the nodes that publish there")
            return
        config = current(self._node, RecorderConfig)
        try:
            if self._lockstep and config.episode_id:
                make_way(self._dataset, config.episode_id)
            writer = self._dataset.new_writer(
                contract=self.contract,
                clock="sim" if self._lockstep else "ros",
                started_ns=EPISODE_START_NS if self._lockstep else self._node.get_clock().now().nanoseconds,
                task=config.task,
                operator=config.operator,
                episode_id=config.episode_id or None,
                image_storage=config.image_storage,
                extra_streams=(TRUTH,) if self._lockstep else (),
            )
        except ArmchairError as error:
            reply(False, str(error))
            return
        self._recording = Recording(writer, config.buffer_mib << 20)
        self._sources.begin(self._recording)
        self._report("recording")
        reply(True, str(writer.path))

    def _closing(self, name: str, final: Callable[[EpisodeWriter], Any]) -> None:
        def close(reply: Reply) -> None:
            recording = self._recording
            if recording is None:
                reply(False, "nothing is being recorded: call ~/start first")
                return
            self._recording = None
            self._sources.end()
            try:
                path = recording.close(final)
            except ArmchairError as error:
                self._report("failed", str(error))
                reply(False, str(error))
                return
            self._episodes += 1
            self._report("idle")
            reply(True, str(path))

        self._loop.trigger(name, close)

    def _tick_status(self) -> None:
        if self._recording is not None:
            error = self._recording.error
            self._report("failed" if error else "recording", str(error or ""))
        self._loop.at(self._loop.now_ns() + STATUS_PERIOD_NS, self._tick_status)

    def _report(self, state: str, error: str = "") -> None:
        recording = self._recording
        values: dict[str, object] = {
            "episodes": self._episodes,
            "path": recording.path if recording else "",
            "samples": recording.samples if recording else 0,
            "dropped": recording.dropped if recording else 0,
            "undecodable": self._sources.undecodable,
            "bytes_free": shutil.disk_usage(self._dataset.path).free,
            "error": error,
        }
        level = DiagnosticStatus.ERROR if error else DiagnosticStatus.OK
        status = DiagnosticStatus(level=level, name="recorder", message=state)
        status.values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        self._status.publish(status)

    def close(self, reason: str) -> None:
        """Close an episode that is still open as a failure, and keep it."""
        if self._recording is not None:
            path = self._recording.abort(reason)
            self._node.get_logger().warning(f"closed as a failure ({reason}): {path}")


def main() -> int:
    """Entry point of the executable `recorder_node`."""
    settable = ("task", "operator", "episode_id", "ended_by")
    return run_node("recorder", RecorderConfig, RecorderNode, settable=settable)


if __name__ == "__main__":
    sys.exit(main())
