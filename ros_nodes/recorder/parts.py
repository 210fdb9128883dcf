"""What becomes of a message: a sample, a picture that is encoded on its way, a command or an event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from episodes.command_parts import CommandParts
from episodes.contract import ObservationStream
from episodes.jpeg import encode_jpeg
from episodes.layout import encoding_of
from episodes.messages import CommandDecoder, CommandMessage, Decoder, MessageError
from episodes.picture_messages import passed_through
from episodes.writer import EpisodeWriter
from ros_nodes.recorder.recording import Item, Recording

COMMANDS = "commands"
OVERHEAD_BYTES = 256
"""What a small sample takes in the buffer beside its numbers."""


@dataclass(frozen=True)
class PictureSettings:
    """How pictures are stored."""

    storage: str
    """How 8-bit pictures are stored: jpeg, lzf or raw."""
    depth_storage: str
    """How all others are: lzf or raw."""
    jpeg_quality: int
    """1 to 100."""
    jpeg_subsampling: str
    """444, 422 or 420."""


class Part(Protocol):
    """What one message of a topic brings to one stream."""

    name: str
    """The stream's name, "commands" or, for texts, the topic's entry in the contract."""
    odd: str
    """What the operator should know of the last sample though it is recorded; empty for nothing."""

    def probe(self, message: Any) -> None:
        """Look whether the message fits the contract.

        Raises:
            MessageError: it does not.
        """

    def record(self, recording: Recording, message: Any, stamp_ns: int, recv_ns: int) -> None:
        """Hand the message over.

        Raises:
            MessageError: it does not fit the contract.
            ArmchairError: writing failed earlier.
        """


class Vector:
    """Numbers, decoded at once. What is not finite is recorded as it is, and told."""

    def __init__(self, name: str, decode: Decoder, commands: CommandParts | None = None) -> None:
        """`commands` is told of every sample, where a channel is recorded from what is measured."""
        self.name = name
        self.odd = ""
        self._decode = decode
        self._commands = commands

    def probe(self, message: Any) -> None:
        """See `Part`."""
        self._decode(message)

    def record(self, recording: Recording, message: Any, stamp_ns: int, recv_ns: int) -> None:
        """See `Part`."""
        value = self._decode(message)
        self.odd = "" if np.isfinite(value).all() else f"{self.name} holds a non-finite number"
        if self._commands is not None:
            self._commands.measured(self.name, value)
        item: Item = (EpisodeWriter.append, (self.name, value, stamp_ns, recv_ns))
        recording.put([item], value.nbytes + OVERHEAD_BYTES, stream=self.name, wait=False)


class Picture:
    """A picture, decoded and encoded by the recording's pool; JPEG bytes are passed through as they are."""

    odd = ""

    def __init__(
        self,
        stream: ObservationStream,
        decode: Decoder,
        settings: PictureSettings,
        refused: Callable[[Picture, MessageError], None],
    ) -> None:
        """`refused` is called from the pool when a message does not fit."""
        self.name = stream.name
        self._stream = stream
        self._decode = decode
        self._settings = settings
        self._refused = refused
        self._as_jpeg = encoding_of(stream, settings.storage, settings.depth_storage) == "jpeg"
        self._compressed = stream.type.endswith("CompressedImage")

    @property
    def kept_share(self) -> float:
        """Bytes on the disk per byte of a message, about; 0.25 is JPEG of quality 95 with sensor noise."""
        if self._compressed == self._as_jpeg:
            return 1.0
        return 0.25 if self._as_jpeg else 4.0

    def probe(self, message: Any) -> None:
        """See `Part`."""
        self._decode(message)

    def record(self, recording: Recording, message: Any, stamp_ns: int, recv_ns: int) -> None:
        """See `Part`."""

        def work() -> tuple[list[Item], int]:
            try:
                item, nbytes = self._item(message, stamp_ns, recv_ns)
            except MessageError as error:
                self._refused(self, error)
                return [(EpisodeWriter.count_drop, (self.name,))], 0
            return [item], nbytes

        recording.put_work(work, len(message.data), stream=self.name)

    def _item(self, message: Any, stamp_ns: int, recv_ns: int) -> tuple[Item, int]:
        data = passed_through(self._stream, message) if self._as_jpeg and self._compressed else None
        if data is None:
            value = self._decode(message)
            if not self._as_jpeg:
                return (EpisodeWriter.append, (self.name, value, stamp_ns, recv_ns)), value.nbytes
            data = encode_jpeg(value, self._settings.jpeg_quality, self._settings.jpeg_subsampling)
        return (EpisodeWriter.append_jpeg, (self.name, data, stamp_ns, recv_ns)), data.nbytes


class Text:
    """A std_msgs String, recorded as an event with the name of its entry in the contract."""

    odd = ""

    def __init__(self, name: str) -> None:
        self.name = name

    def probe(self, message: Any) -> None:
        """See `Part`; every text fits."""

    def record(self, recording: Recording, message: Any, stamp_ns: int, recv_ns: int) -> None:
        """See `Part`."""
        item: Item = (EpisodeWriter.event, (self.name, message.data, recv_ns))
        recording.put([item], len(message.data) + OVERHEAD_BYTES, stream=COMMANDS, wait=False)


class OwnCommand:
    """Armchair's own command, of all channels at once."""

    name = COMMANDS
    odd = ""

    def __init__(self, decoder: CommandDecoder, commands: CommandParts) -> None:
        self._decoder = decoder
        self._commands = commands

    def probe(self, message: Any) -> None:
        """See `Part`."""
        self._decoder.decode(message)

    def record(self, recording: Recording, message: Any, stamp_ns: int, recv_ns: int) -> None:
        """See `Part`."""
        _put_command(recording, self._commands.command(self._decoder.decode(message)), recv_ns)


class ChannelCommand:
    """The topic that one channel's actions are recorded from."""

    name = COMMANDS
    odd = ""

    def __init__(self, channel: str, decode: Decoder, commands: CommandParts) -> None:
        self._channel = channel
        self._decode = decode
        self._commands = commands

    def probe(self, message: Any) -> None:
        """See `Part`."""
        self._decode(message)

    def record(self, recording: Recording, message: Any, stamp_ns: int, recv_ns: int) -> None:
        """See `Part`."""
        command = self._commands.part(self._channel, self._decode(message), stamp_ns)
        _put_command(recording, command, recv_ns)


def _put_command(recording: Recording, command: CommandMessage | None, recv_ns: int) -> None:
    if command is not None:
        item = command_item(command, recv_ns)
        recording.put([item], command.values.nbytes + OVERHEAD_BYTES, stream=COMMANDS, wait=False)


def command_item(command: CommandMessage, recv_ns: int) -> Item:
    """A command as the writer takes it."""
    return (
        EpisodeWriter.append_command,
        (command.values, command.stamp_ns, recv_ns, command.observation_ns, command.source),
    )
