"""The robot contract: the one place where a robot is described.

A contract is a YAML file (`launch/contracts/*.yaml`) read by the recorder, training, export, control and
simulation alike. This module reads and validates it; `contract_model` says what it holds.
"""

from __future__ import annotations

from pathlib import Path

from episodes import contract_parse as parse
from episodes.contract_actions import parse_action
from episodes.contract_model import (
    IMAGE_TYPES,
    ActionChannel,
    Contract,
    KinematicLink,
    ObservationStream,
    RecordedTopic,
    Simulation,
    Source,
    check_compatible,
    looser_limits,
)
from episodes.contract_recorded import parse_recorded
from episodes.errors import ContractError

__all__ = [
    "ActionChannel",
    "Contract",
    "KinematicLink",
    "ObservationStream",
    "RecordedTopic",
    "Simulation",
    "Source",
    "check_compatible",
    "load_contract",
    "looser_limits",
    "parse_contract",
]

OBSERVATION_TYPES = (
    *IMAGE_TYPES,
    "sensor_msgs/msg/JointState",
    "std_msgs/msg/Float64MultiArray",
    "geometry_msgs/msg/TwistStamped",
    "geometry_msgs/msg/PoseStamped",
    "geometry_msgs/msg/WrenchStamped",
)
ALIGNMENTS = ("nearest", "linear", "slerp", "hold")
JOINT_FIELDS = ("position", "velocity", "effort")


def load_contract(path: Path | str) -> Contract:
    """Read and validate a contract file.

    Raises:
        ContractError: the file is missing, no YAML, or a key is unknown, missing or wrong.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        shown = ", ".join(sorted(p.name for p in path.parent.glob("*.yaml"))) if path.parent.is_dir() else ""
        raise ContractError(
            f"{path}: the contract cannot be read ({error}). Give the path of a contract YAML"
            + (
                f"; that folder holds {shown}."
                if shown
                else ", for example launch/contracts/sawyer_sim.yaml."
            )
        ) from error
    return parse_contract(text, str(path))


def parse_contract(text: str, source: str = "<contract>") -> Contract:
    """Validate contract YAML `text`; `source` is named in errors.

    Raises:
        ContractError: naming file, key, value and what to write instead.
    """
    top = parse.Node.root(text, source)
    top.only("robot", "rate_hz", "reference", "observations", "actions", "recorded", "simulation", "estop")
    rate_hz = top.number("rate_hz", lower=0.1, upper=2000.0)
    observations = {name: _observation(name, node) for name, node in top.children("observations")}
    actions = {name: parse_action(name, node, observations) for name, node in top.children("actions")}
    reference = top.choice("reference", tuple(observations))
    _distinct_topics(top, observations, actions)
    recorded: dict[str, RecordedTopic] = {}
    for name, node in top.children("recorded") if top.has("recorded") else ():
        others = {**observations, **{name: topic.stream for name, topic in recorded.items()}}
        recorded[name] = parse_recorded(name, node, others, actions)
    simulation = None
    if top.has("simulation"):
        node = top.child("simulation")
        node.only("environment", "cameras")
        cameras = node.mapping("cameras") if node.has("cameras") else {}
        for stream in cameras:
            if stream not in observations or not observations[stream].is_image:
                raise node.error("cameras", stream, "it names no image stream of 'observations'")
        simulation = Simulation(node.text("environment"), tuple(cameras.items()))
    return Contract(
        robot=top.text("robot"),
        rate_hz=rate_hz,
        reference=reference,
        observations=observations,
        actions=actions,
        simulation=simulation,
        estop=top.strings("estop", default=()),
        text=text,
        source=source,
        recorded=recorded,
    )


def _observation(name: str, node: parse.Node) -> ObservationStream:
    node.only("topic", "type", "shape", "dtype", "field", "names", "align", "max_age_ms", "unit")
    message = node.choice("type", OBSERVATION_TYPES)
    image = message in IMAGE_TYPES
    names = None if image else node.strings("names")
    if node.has("shape"):
        shape = node.shape("shape")
    elif names is not None:
        shape = (len(names),)
    else:
        raise node.error("shape", None, "pictures need a shape, [height, width, channels]")
    if image and (len(shape) != 3 or shape[2] not in (1, 3)):
        raise node.error("shape", list(shape), "write [height, width, channels] with 1 or 3 channels")
    if names is not None and shape != (len(names),):
        raise node.error(
            "shape", list(shape), f"'names' lists {len(names)} entries, so the shape is [{len(names)}]"
        )
    align = node.choice("align", ALIGNMENTS, default="nearest" if image else "linear")
    if image and align in ("linear", "slerp"):
        raise node.error("align", align, "pictures are never interpolated: use nearest or hold")
    if align == "slerp" and shape != (4,):
        raise node.error("align", align, "slerp is for one quaternion in the order x, y, z, w, shape [4]")
    joint = message.endswith("JointState")
    return ObservationStream(
        name=name,
        topic=node.topic("topic"),
        type=message,
        shape=shape,
        dtype=node.choice(
            "dtype", ("uint8", "uint16", "float32", "float64"), default="uint8" if image else "float64"
        ),
        align=align,
        max_age_ns=round(node.number("max_age_ms", lower=0.001, upper=60_000.0) * 1e6),
        field=node.choice("field", JOINT_FIELDS, default="position") if joint else None,
        names=names,
        unit=node.text("unit", default=""),
    )


def _distinct_topics(
    top: parse.Node, observations: dict[str, ObservationStream], actions: dict[str, ActionChannel]
) -> None:
    """Two fields of one JointState topic are two streams; anything else on a shared topic is a mistake."""
    seen: dict[tuple[str, str | None], str] = {}
    for stream in observations.values():
        other = seen.setdefault((stream.topic, stream.field), stream.name)
        if other != stream.name:
            raise top.error(
                f"observations.{stream.name}.topic", stream.topic, f"stream {other!r} has it already"
            )
    taken = {stream.topic: stream.name for stream in observations.values()}
    for channel in actions.values():
        if channel.topic in taken:
            raise top.error(
                f"actions.{channel.name}.topic", channel.topic, f"{taken[channel.topic]!r} has it already"
            )
        taken[channel.topic] = channel.name
    names = [name for channel in actions.values() for name in channel.names]
    for name in names:
        if names.count(name) > 1:
            raise top.error(
                "actions", name, "an entry of the action vector is named twice: names must differ"
            )
