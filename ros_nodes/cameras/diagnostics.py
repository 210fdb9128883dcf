"""The state of a camera as a DiagnosticArray."""

from __future__ import annotations

from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from ros_nodes.cameras.capture import Connection
from ros_nodes.cameras.health import Level, Report
from ros_nodes.convert import set_stamp


def diagnostics(
    camera: str,
    connection: Connection,
    reports: Mapping[str, Report],
    figures: Mapping[str, object],
    stamp_ns: int,
    warning: str = "",
) -> DiagnosticArray:
    """One status for the connection, one per stream.

    Args:
        camera: name of the camera; statuses are `<camera>: connection` and `<camera>: <stream>`.
        figures: what else there is to tell of the connection.
        stamp_ns: wall clock.
        warning: what is wrong with the connection although it stands.
    """
    message = DiagnosticArray()
    set_stamp(message.header.stamp, stamp_ns)
    values = {
        "connected": connection.connected,
        "reconnects": connection.reconnects,
        "attempts": connection.attempts,
        "clock_restarts": connection.clock_restarts,
        **figures,
    }
    level = Level.ERROR if not connection.connected else Level.WARN if warning else Level.OK
    text = connection.problem or warning or "connected"
    message.status = [_status(f"{camera}: connection", connection.device, level, text, values)]
    for stream, report in reports.items():
        # While there is no device every stream is silent: the connection tells why, once.
        text = report.message if connection.connected else "not connected"
        stream_level = report.level if connection.connected else Level.ERROR
        message.status.append(
            _status(f"{camera}: {stream}", connection.device, stream_level, text, report.figures)
        )
    return message


def _status(
    name: str, hardware: str, level: Level, text: str, values: Mapping[str, object]
) -> DiagnosticStatus:
    status = DiagnosticStatus(name=name, hardware_id=hardware, message=text)
    status.level = bytes([level])
    status.values = [KeyValue(key=key, value=_text(value)) for key, value in values.items()]
    return status


def _text(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)
