"""The drills on sensors, policy, driver and e-stop, on the wall clock."""

from __future__ import annotations

from bench.drills.drill import Drill
from bench.drills.rig import ESTOP, LENGTH, Rig
from episodes.errors import StackError
from episodes.messages import COMMAND_TOPIC
from ros_nodes.commands import CHUNK_TOPIC

PERIOD_MS = 50.0
"""Of arm6's contracts: cameras, policy and plans."""
PLAN_MS = (LENGTH + 1) * PERIOD_MS
"""How long the arm goes on with the newest plan when no other comes: its actions, and one period's grace."""
STALE_MS = 100.0
"""Largest age of a picture or of the joints, by the contract."""
STARVED_MS = 500.0
"""How long control waits for a plan before it says FAULT."""
FROZEN_MS = 7.0 * PERIOD_MS
"""Five identical pictures after the last new one, which are judged with the next one."""
ESTOP_SILENCE_MS = 300.0
GRAPH_MS = 100.0 + 150.0
"""How often control looks for second publishers, and how long one may take to be discovered on a host."""
STARVED = "no action of the policy has been due"


def camera(name: str, fault: str, says: str = STARVED) -> Drill:
    """A simulated camera that fails; with no picture that may be used there is no plan."""

    def inject(rig: Rig) -> int:
        return rig.services.set("sim", camera_faults=[fault])

    def heal(rig: Rig) -> None:
        rig.services.set("sim", camera_faults=[])

    reaction_ms = STALE_MS + PERIOD_MS + PLAN_MS
    return Drill(name, inject, heal, says, reaction_ms, reaction_ms + STARVED_MS)


def wrong_chunks(name: str, wrong: str, says: str, reaction_ms: float, fault_ms: float) -> Drill:
    """The policy's place is taken by a process whose chunks go wrong."""

    def prepare(rig: Rig) -> None:
        rig.replace_policy()

    def inject(rig: Rig) -> int:
        return rig.services.set("impostor", wrong=wrong)

    def heal(rig: Rig) -> None:
        rig.services.set("impostor", wrong="")

    return Drill(name, inject, heal, says, reaction_ms, fault_ms, prepare)


def refused(name: str, wrong: str, says: str) -> Drill:
    """Chunks that control must not even look at twice."""
    return wrong_chunks(name, wrong, says, 2.0 * PERIOD_MS, 2.0 * PERIOD_MS)


def starving(name: str, wrong: str) -> Drill:
    """Chunks that are of no use: as if none came."""
    reaction_ms = PERIOD_MS + PLAN_MS
    return wrong_chunks(name, wrong, STARVED, reaction_ms, reaction_ms + STARVED_MS)


def network(name: str, kind: str, says: str) -> Drill:
    """The policy node runs a bundle whose network goes wrong in a part of its space, where the arm gets."""

    def inject(rig: Rig) -> int:
        rig.until(lambda: rig.watch.absurd_ns is not None, "a chunk that no arm could follow")
        return rig.watch.absurd_ns or 0

    def prepare(rig: Rig) -> None:
        rig.own_policy()
        rig.load(kind)

    return Drill(name, inject, lambda rig: rig.load("circles"), says, 0.0, 0.0, prepare)


def second_publisher(what: str, topic: str) -> Drill:
    """Somebody else has a publisher on a topic that is one node's alone."""
    return Drill(
        f"second publisher of {what}", lambda rig: rig.appear(topic, "still"), lambda rig: rig.disappear(),
        f"more than one node publishes on {topic}", GRAPH_MS, GRAPH_MS,
    )  # fmt: skip


def _own_pendant(rig: Rig) -> None:
    rig.own_policy()
    rig.own_pendant()


def _restart_wrongly(rig: Rig) -> int:
    """End the policy node, and start it with a bundle of another robot: it refuses, by name."""
    fault_ns = rig.now_ns()
    rig.end("policy")
    rig.start_policy(rig.foreign_bundle())
    refusal = rig.crew.running("policy")
    rig.until(lambda: refusal.popen.poll() is not None, "the end of the policy node")
    if refusal.popen.returncode != 1 or "does not fit this robot" not in refusal.tail():
        raise StackError(f"the policy node took a bundle of another robot:\n{refusal.tail()}")
    rig.end("policy")
    return fault_ns


CAMERA_DRILLS = (
    Drill(
        "camera killed", lambda rig: rig.kill("camera"), lambda rig: rig.start_camera(), STARVED,
        STALE_MS + PERIOD_MS + PLAN_MS, STALE_MS + PERIOD_MS + PLAN_MS + STARVED_MS,
    ),
    camera("reference camera without frames", "front=drop"),
    Drill(
        "camera frozen, new stamps", lambda rig: rig.services.set("sim", camera_faults=["front=freeze"]),
        lambda rig: rig.services.set("sim", camera_faults=[]), "front frozen", FROZEN_MS, FROZEN_MS,
    ),
    camera("camera stuck, old stamps", "wrist=stuck"),
    camera("camera delayed 500 ms", "wrist=delay:0.5"),
)  # fmt: skip
POLICY_DRILLS = (
    Drill(
        "policy killed", lambda rig: rig.kill("policy"), lambda rig: rig.start_policy(), STARVED,
        PERIOD_MS + PLAN_MS, PERIOD_MS + PLAN_MS + STARVED_MS,
    ),
    Drill(
        "policy hung", lambda rig: rig.hang("policy"), lambda rig: rig.crew.resume("policy"), STARVED,
        PERIOD_MS + PLAN_MS, PERIOD_MS + PLAN_MS + STARVED_MS,
    ),
)  # fmt: skip
NETWORK_DRILLS = (
    network("network yields NaN", "nan", "non-finite"),
    network("network yields huge numbers", "huge", "far outside its box"),
)
CHUNK_DRILLS = (
    refused("chunks with NaN", "nan", "non-finite"),
    refused("huge chunks", "huge", "far outside its box"),
    refused("chunks of largest floats, either sign", "opposite", "far outside its box"),
    refused("chunks a value short", "short", "7 names but 6 values"),
    refused("chunks a value long", "long", "7 names but 8 values"),
    refused("chunks for other joints", "unnamed", "wrong set of names"),
    starving("late chunks", "late"),
    starving("chunks from the future", "future"),
    starving("no chunks", "silent"),
)
ROBOT_DRILLS = (
    Drill(
        "driver silent", lambda rig: rig.services.set("sim", driver_fault="silent"),
        lambda rig: rig.services.set("sim", driver_fault=""), "joints was measured", STALE_MS, STALE_MS,
    ),
    Drill(
        "e-stop pressed", lambda rig: rig.services.set("pendant", pressed=True),
        lambda rig: rig.services.set("pendant", pressed=False), f"e-stop is pressed: {ESTOP}", 40.0, 40.0,
        prepare=_own_pendant,
    ),
    Drill(
        "e-stop silent", lambda rig: rig.hang("pendant"), lambda rig: rig.crew.resume("pendant"),
        "e-stop is silent", ESTOP_SILENCE_MS, ESTOP_SILENCE_MS, prepare=_own_pendant,
    ),
)  # fmt: skip
SECOND_DRILLS = (
    second_publisher("chunks", CHUNK_TOPIC),
    second_publisher("commands", COMMAND_TOPIC),
    second_publisher("the actuator", "forward_position_controller/commands"),
)
RESTART_DRILLS = (
    Drill(
        "policy restarted with a wrong bundle", _restart_wrongly, lambda rig: rig.own_policy(), STARVED,
        PERIOD_MS + PLAN_MS, PERIOD_MS + PLAN_MS + STARVED_MS,
    ),
)  # fmt: skip
