"""One command vector out of channels that are recorded from different places (`record_from`).

A channel comes from armchair's own command, from a topic of its own, or from the next measured state. The
command is recorded whenever the first channel that is not measured comes; the others have their last values
then. A measured channel has what is measured at that moment: alignment puts the next state there.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from episodes.contract import Contract, Source
from episodes.errors import ContractError
from episodes.messages import CommandMessage, MessageError


class CommandParts:
    """Puts commands together. `command` and `part` return the command that is to be recorded now, if any.

    Raises:
        MessageError: from both: a command is not finite, or was sent before the one before it.
    """

    def __init__(self, contract: Contract) -> None:
        """ContractError where a channel is recorded from the next state and nothing measures it."""
        for name, channel in contract.actions.items():
            if channel.record_from == "next_state" and channel.measured_by is None:
                raise ContractError(
                    f"{contract.source}: key 'actions.{name}.measured_by' is missing: with 'record_from: "
                    "next_state' the action is what is measured next: name the stream that measures it."
                )
        self._slices = contract.action_slices
        self._origins = {name: channel.record_from for name, channel in contract.actions.items()}
        moved = [name for name, origin in self._origins.items() if origin != "next_state"]
        self._leading = moved[0] if moved else None
        self._measured: dict[str, list[int]] = {}
        for name, channel in contract.actions.items():
            if channel.record_from == "next_state" and moved:
                entries = contract.observations[channel.measured_by or ""].names or ()
                self._measured[name] = [entries.index(joint) for joint in channel.names]
        self.measured_streams = {contract.actions[name].measured_by or "": name for name in self._measured}
        """Observation streams whose samples `measured` needs, and the channel of each."""
        self._parts: dict[str, NDArray[np.float64]] = {}
        self._last_ns = 0

    def restart(self) -> None:
        """A new episode begins: no value of the last one counts."""
        self._parts.clear()
        self._last_ns = 0

    def command(self, message: CommandMessage) -> CommandMessage | None:
        """Armchair's own command came."""
        for name, origin in self._origins.items():
            if origin == "command":
                self._parts[name] = message.values[self._slices[name]]
        if self._leading is None or self._origins[self._leading] != "command":
            return None
        return self._whole(message)

    def part(self, channel: str, values: NDArray[np.float64], stamp_ns: int) -> CommandMessage | None:
        """The topic of one channel brought its values (dim,)."""
        self._parts[channel] = values
        if channel != self._leading:
            return None
        return self._whole(CommandMessage(values, stamp_ns, 0, Source.TELEOP))

    def measured(self, stream: str, values: NDArray[np.float64]) -> None:
        """A stream of `measured_streams` brought a sample."""
        channel = self.measured_streams[stream]
        self._parts[channel] = np.asarray(values, np.float64)[self._measured[channel]]

    def _whole(self, message: CommandMessage) -> CommandMessage | None:
        if len(self._parts) < len(self._origins):
            return None
        values = np.concatenate([self._parts[name] for name in self._origins])
        if not np.isfinite(values).all():
            raise MessageError(f"a command is not finite: {values.tolist()}.")
        if message.stamp_ns < self._last_ns:
            raise MessageError(
                f"a command is stamped {message.stamp_ns} ns, before the one that came before it: two nodes "
                "command the robot, or the clock of the one that does was set back."
            )
        if not 0 <= message.observation_ns < 2**63:
            raise MessageError(f"a command names the observation {message.observation_ns} ns.")
        self._last_ns = message.stamp_ns
        return replace(message, values=values)
