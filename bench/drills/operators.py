"""The drills with an operator: a gamepad, the teleoperation node and, for a takeover, the recorder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.drills.drill import Drill, Measurement, Other, standstill, tick_ms
from bench.drills.handover import steps, turns
from bench.drills.rig import Rig
from episodes.contract import Source
from episodes.errors import StackError
from episodes.reader import Episode
from policy.runtime.limits import Limits

BEAT_MS = 20.0
"""Period of the gamepad, and of the teleoperation node."""
MAX_AGE_MS = 150.0
"""How long an operator's command stands, by control's defaults."""
SILENCE_MS = 200.0
"""After which control takes a dead-man for silent."""
DEVICE_MS = 300.0
"""After which the teleoperation node takes its device for silent."""
PUSHED = 0.5
"""rad by which the operator turns the first joint."""
BEFORE_NS = 300_000_000
"""How much of the policy's motion before a takeover is judged with it."""
LOST = "the dead-man fell silent"


def press(rig: Rig) -> int:
    """The operator takes hold, and control follows; when."""
    rig.until(lambda: rig.services.trigger("teleop/ready")[0], "the teleoperation node")
    asked_ns = rig.services.set("gamepad", held=True)
    rig.until(lambda: rig.watch.state in ("TELEOP", "FAULT"), "TELEOP")
    return asked_ns


def push(rig: Rig) -> float:
    """The first axis to its end, towards the middle of the joint's range; where the joint's command was."""
    at = float(rig.watch.commands[-1].values[0])
    rig.services.set("gamepad", push=-1.0 if at > 0.0 else 1.0)
    return at


def let_go(rig: Rig) -> int:
    """Dead-man and axis; when."""
    return rig.services.set("gamepad", held=False, push=0.0)


def _driving(rig: Rig) -> None:
    """In a takeover, with the first joint at speed."""
    press(rig)
    at = push(rig)
    rig.until(lambda: abs(rig.watch.commands[-1].values[0] - at) > 0.5 * PUSHED, "the operator's motion")


def _lose_gamepad(rig: Rig) -> int:
    _driving(rig)
    return rig.hang("gamepad")


def _find_gamepad(rig: Rig) -> None:
    rig.crew.resume("gamepad")
    let_go(rig)


def _kill_teleop(rig: Rig) -> int:
    _driving(rig)
    return rig.kill("teleop")


def _restart_teleop(rig: Rig) -> None:
    let_go(rig)
    rig.start_teleop()


def _prepare(rig: Rig) -> None:
    rig.own_policy()
    rig.start_operator()


def takeover(rig: Rig, found: Measurement) -> None:
    """A person takes the arm over from the policy and gives it back, without a stop between; the episode that
    is recorded meanwhile marks what was theirs."""
    watch = rig.watch
    rig.own_policy()
    rig.start_recorder()
    rig.start_operator()
    rig.until(lambda: rig.is_up("recorder"), "the recorder")
    rig.reset()
    rig.until(lambda: rig.services.trigger("recorder/start")[0], "the recording")
    rig.go()
    found.fault_ns = taken_ns = press(rig)
    rig.until(lambda: watch.source_ns(taken_ns, "intervention") is not None, "the operator's first command")
    found.note("takeover", watch.source_ns(taken_ns, "intervention"), 3.0 * BEAT_MS + tick_ms(rig))
    at = push(rig)
    rig.until(
        lambda: abs(watch.commands[-1].values[0] - at) > PUSHED or watch.state == "FAULT", "the turned joint"
    )
    found.demand(watch.state == "TELEOP", f"control is in {watch.state} {watch.fault}, the dead-man is held")
    found.says = "taken over, given back"
    found.fault_ns = released_ns = let_go(rig)
    rig.until(lambda: watch.source_ns(released_ns, "policy") is not None, "the policy's return")
    rig.until(lambda: watch.pace > 0.5, "a fast motion")
    rig.until(lambda: watch.state in ("POLICY", "FAULT"), "POLICY")
    found.state = watch.state
    back_ms = 3.0 * BEAT_MS + 2.0 * rig.contract.period_ns / 1e6 + tick_ms(rig)
    found.note("return", watch.source_ns(released_ns, "policy"), back_ms)
    found.fault_ns = taken_ns
    found.demand(watch.state == "POLICY", f"control is in {watch.state} {watch.fault} after the takeover")
    found.limits()
    sent = len(watch.commands)
    # What still waits for a recorder that was not run when it is told to end is not in its episode.
    rig.until(lambda: watch.recorded >= sent, "the recorder's last command")
    closed, path = rig.services.trigger("recorder/success")
    found.demand(closed, f"the recorder: {path}")
    judge(rig, found, Path(path), taken_ns - BEFORE_NS)
    rig.disable()
    rig.end("recorder")


def judge(rig: Rig, found: Measurement, path: Path, since_ns: int) -> None:
    """The episode marks the operator's commands and no other, and none of them jumps."""
    # What was heard here may lack some, where this process was not run for seconds.
    heard = {c.stamp_ns: c.source == "intervention" for c in rig.watch.commands}
    with Episode.open(path) as episode:
        commands = episode.commands
        if commands is None:
            raise StackError(f"{path} holds no commands")
        marked = set(commands.stamp_ns[commands.source == Source.INTERVENTION].tolist())
        part = commands.stamp_ns > since_ns
        order = turns(commands.source[part])
        limits = Limits.of(rig.contract, round(1e9 / rig.setup.rate_hz))
        seen = steps(commands.values[part], commands.stamp_ns[part], limits)
        outcome = episode.attrs["outcome"]
    found.figures |= {
        "interventions": float(len(marked)),
        "command_velocity_share": seen.velocity,
        "command_acceleration_share": seen.acceleration,
    }
    found.demand(outcome == "success", f"the episode's outcome is {outcome}")
    wrong = [stamp_ns for stamp_ns, theirs in heard.items() if theirs != (stamp_ns in marked)]
    found.demand(bool(marked) and not wrong, f"{len(wrong)} of {len(heard)} commands are marked wrongly")
    wanted = [Source.POLICY, Source.INTERVENTION, Source.POLICY]
    found.demand(order == wanted, f"the episode's commands are of {[source.name for source in order]}")
    found.demand(seen.judged > len(marked), f"{seen.judged} steps can be judged: this machine is too busy")
    rounding = 1.0 + 1e-6
    found.demand(
        np.isfinite(seen.acceleration) and max(seen.velocity, seen.acceleration) <= rounding,
        f"the commands jump: {seen.velocity:.4f} of a speed, {seen.acceleration:.4f} of an acceleration",
    )


def driven_alone(rig: Rig, found: Measurement) -> None:
    """Without a policy nobody goes on when the teleoperation node dies: HOLD, and a new one drives again."""
    watch = rig.watch
    rig.own_pendant()
    rig.end("policy")
    rig.disappear()
    rig.start_operator()
    rig.reset()
    rig.enable()
    press(rig)
    push(rig)
    rig.until(lambda: watch.pace > 0.6, "a fast motion")
    found.fault_ns = rig.kill("teleop")
    rig.until(lambda: watch.state != "TELEOP", "HOLD")
    standstill(rig, found, MAX_AGE_MS + BEAT_MS)
    found.state, found.says = watch.state, watch.fault or "the arm holds"
    found.demand(watch.state == "HOLD", f"control is in {watch.state} {watch.fault}")
    rig.disable()
    _restart_teleop(rig)
    rig.bury()
    rig.hear_operator()
    rig.enable()
    press(rig)
    found.demand(watch.state == "TELEOP", f"control is in {watch.state} {watch.fault} under the new node")
    let_go(rig)
    found.limits()
    rig.disable()
    rig.end_operator()


OPERATOR_DRILLS = (
    Other("takeover and return, recorded", takeover),
    Drill(
        "gamepad lost in a takeover", _lose_gamepad, _find_gamepad, LOST,
        DEVICE_MS + 2.0 * BEAT_MS + MAX_AGE_MS, DEVICE_MS + 2.0 * BEAT_MS + SILENCE_MS, prepare=_prepare,
    ),
    Drill(
        "teleoperation killed in a takeover", _kill_teleop, _restart_teleop, LOST,
        MAX_AGE_MS + BEAT_MS, SILENCE_MS + BEAT_MS, prepare=_prepare, restore=lambda rig: rig.end_operator(),
    ),
)  # fmt: skip
ALONE_DRILLS = (Other("teleoperation killed while it drives", driven_alone),)
