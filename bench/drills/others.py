"""Drills in which control does not say FAULT: it must go on, or it is not there."""

from __future__ import annotations

import shutil
import zlib
from functools import partial

from sensor_msgs.msg import Image

from bench.drills.drill import SETTLE_MS, Measurement, Other, stop_ms
from bench.drills.rig import Rig
from ros_nodes import qos

DRIVER_MS = 200.0
"""After which the simulated driver holds by itself when commands stop (`command_timeout_s`)."""
STILL_FRAMES = 20
"""How many identical pictures in a row a still arm must outlive; a moving one may have four."""
HOLDS_ON = 120
"""Samples of the arm's motion during which nothing may happen."""


def control_killed(rig: Rig, found: Measurement) -> None:
    """The driver brakes by itself; a new control process sends nothing before it is enabled."""
    watch = rig.watch
    rig.own_policy()
    rig.reset()
    rig.go()
    found.fault_ns = rig.kill("control")
    rig.until(lambda: watch.rest_ns(found.fault_ns) is not None, "a standing arm")
    found.note("rest", watch.rest_ns(found.fault_ns), DRIVER_MS + stop_ms(rig) + SETTLE_MS)
    rig.until(lambda: watch.diagnostics.get("sim: driver", {}).get("holding") == "1", "the driver's hold")
    found.state, found.says = "(no control)", "the driver holds by itself"
    began = len(watch.commands)
    rig.start_control()
    watch.state = ""
    rig.until(lambda: watch.state == "DISABLED", "the new control")
    rig.bury()
    found.demand(len(watch.commands) == began, "the new control sent commands before it was enabled")
    found.demand(watch.rest_ns(found.fault_ns) is not None, "the arm moved before control was enabled")
    rig.go()
    found.limits()
    rig.disable()


def still_arm(rig: Rig, found: Measurement) -> None:
    """Pictures repeat because nothing moves: no fault."""
    watch = rig.watch
    rig.own_policy()
    rig.load("still")
    rig.reset()
    repeats: dict[str, list[int]] = {"front": [0], "wrist": [0]}
    last: dict[str, int] = {}

    def see(name: str, message: Image) -> None:
        checksum = zlib.crc32(message.data)
        counts = repeats[name]
        counts[-1] += 1
        if checksum != last.get(name):
            last[name] = checksum
            counts.append(1)

    cameras = {name: rig.contract.observations[name] for name in repeats if name in rig.contract.observations}
    subscriptions = [
        rig.loop.subscribe(Image, stream.topic, qos.STREAM, partial(see, name))
        for name, stream in cameras.items()
    ]
    rig.enable()
    found.fault_ns = rig.now_ns()
    rig.until(lambda: watch.state == "POLICY", "POLICY")
    rig.until(
        lambda: all(max(repeats[name]) >= STILL_FRAMES for name in cameras) or watch.state == "FAULT",
        "identical pictures",
    )
    rig.more(HOLDS_ON)
    states = {
        told.state for told in watch.states if told.time_ns > (watch.state_ns(found.fault_ns, "POLICY") or 0)
    }
    found.state, found.says = watch.state, watch.fault
    found.demand(states <= {"POLICY"}, f"control did not simply go on: {sorted(states)} {watch.fault}")
    found.figures["identical_frames"] = float(min((max(repeats[name]) for name in cameras), default=0))
    for subscription in subscriptions:
        rig.loop.unsubscribe(subscription)
    found.limits()
    rig.disable()
    rig.load("circles")


def wrong_bundle(rig: Rig, found: Measurement) -> None:
    """A policy is never exchanged under a moving arm, and never for a bundle that does not hold."""
    watch = rig.watch
    rig.own_policy()
    rig.reset()
    rig.go()
    found.fault_ns = rig.now_ns()
    refusals = {"moving": rig.try_load(rig.bundles["still"])}
    rig.more(HOLDS_ON)
    sources = {sent.source for sent in watch.commands if sent.time_ns > found.fault_ns}
    found.demand(watch.state == "POLICY" and sources == {"policy"}, f"{watch.state}, commands of {sources}")
    rig.disable()
    damaged = rig.folder / "damaged"
    shutil.rmtree(damaged, ignore_errors=True)
    shutil.copytree(rig.bundles["still"], damaged)
    model = (damaged / "policy.onnx").read_bytes()
    (damaged / "policy.onnx").write_bytes(model[:-1] + bytes([model[-1] ^ 1]))
    refusals |= {"damaged": rig.try_load(damaged), "foreign": rig.try_load(rig.foreign_bundle())}
    for name, text in (
        ("moving", "control is in POLICY"),
        ("damaged", "sha256"),
        ("foreign", "does not fit"),
    ):
        accepted, why = refusals[name]
        found.demand(not accepted and text in why, f"{name} bundle: {why}")
    found.state, found.says = "POLICY", "refused while it moves, when damaged, when of another robot"
    rig.services.set("policy", bundle=str(rig.bundles["circles"]))
    rig.go()
    found.limits()
    rig.disable()


OTHER_DRILLS = (
    Other("control killed", control_killed),
    Other("still arm, still cameras", still_arm),
    Other("bundle swapped for a wrong one", wrong_bundle),
)
