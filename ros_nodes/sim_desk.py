"""What may be asked of a simulation, and when: reset, pause, step, and the states of simulation_interfaces.

Pure: `ros_nodes.sim_services` puts it on services. The states are those of simulation_interfaces'
SimulationState: stopped before the first episode and after being stopped, which resets; playing; paused
otherwise, which an episode that is over is too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from episodes.errors import ArmchairError

State = Literal["stopped", "playing", "paused", "quitting"]
STATES: tuple[State, ...] = ("stopped", "playing", "paused", "quitting")
"""In the order of SimulationState's numbers."""
OK, UNSUPPORTED, FAILED = "RESULT_OK", "RESULT_FEATURE_UNSUPPORTED", "RESULT_OPERATION_FAILED"
ALREADY, TRANSITION = "ALREADY_IN_TARGET_STATE", "STATE_TRANSITION_ERROR"
"""Names of simulation_interfaces' result codes."""
SCOPE_TIME, SCOPE_STATE = 1, 2
"""Bits of ResetSimulation's scope; SCOPE_SPAWNED (4) asks for nothing: nothing is ever spawned."""
SCOPE_DEFAULT, SCOPE_ALL = 0, 255


@dataclass(frozen=True)
class Answer:
    """What came of a request."""

    code: str
    """Name of a result code of simulation_interfaces."""
    message: str

    @property
    def success(self) -> bool:
        """Whether it was done."""
        return self.code == OK


class Operated(Protocol):
    """The simulation behind the desk."""

    @property
    def running(self) -> bool:
        """Whether time goes on."""
        ...

    @property
    def begun(self) -> bool:
        """Whether there is an episode."""
        ...

    @property
    def over(self) -> bool:
        """Whether the episode has ended."""
        ...

    @property
    def tick(self) -> int:
        """Steps of the episode."""
        ...

    def missing(self) -> tuple[str, ...]:
        """What must be there before the first tick and is not."""
        ...

    def begin(self) -> str:
        """Begin the episode that the parameters name, and stand at its start; says which.

        Raises:
            ArmchairError: there is no such episode.
        """
        ...

    def run(self) -> None:
        """Go on."""
        ...

    def pause(self) -> None:
        """Stand still."""
        ...

    def tick_once(self, then: Callable[[], None]) -> None:
        """Take one step, then call `then` and stand still."""
        ...

    def stop(self, reason: str) -> None:
        """End the process once the request is answered."""
        ...


class SimDesk:
    """Takes requests for one simulation.

    Args:
        sim: the simulation.
        time_restarts: whether simulated time begins anew with a reset (lock-step), or goes on (real time).
    """

    def __init__(self, sim: Operated, *, time_restarts: bool) -> None:
        self._sim = sim
        self._time_restarts = time_restarts
        self._stopped = True
        self._stepping: Callable[[Answer], None] | None = None

    @property
    def state(self) -> State:
        """Stopped, playing or paused. Single steps are taken in a pause."""
        if self._sim.running and self._stepping is None:
            return "playing"
        return "stopped" if self._stopped else "paused"

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the constants of SimulatorFeatures that hold here.

        RESET_STATE is promised only where time goes on, and RESET_TIME nowhere: a client that asks for one
        of them alone wants the other one kept.
        """
        return (
            "SIMULATION_RESET",
            *(() if self._time_restarts else ("SIMULATION_RESET_STATE",)),
            "SIMULATION_STATE_GETTING",
            "SIMULATION_STATE_SETTING",
            "SIMULATION_STATE_PAUSE",
            "STEP_SIMULATION_SINGLE",
            "STEP_SIMULATION_MULTIPLE",
        )

    def reset(self, scope: int = SCOPE_DEFAULT) -> Answer:
        """Begin the episode that the parameters name; it stands at its start, paused."""
        if scope not in (SCOPE_DEFAULT, SCOPE_ALL):
            wanted = {bit for bit in (SCOPE_TIME, SCOPE_STATE) if scope & bit}
            if wanted != ({SCOPE_TIME, SCOPE_STATE} if self._time_restarts else {SCOPE_STATE}):
                goes = "begins anew with each episode" if self._time_restarts else "goes on through resets"
                return Answer(UNSUPPORTED, f"scope {scope}: time {goes}: ask for scope 0, the default")
        self._interrupt()
        try:
            which = self._sim.begin()
        except ArmchairError as error:
            return Answer(FAILED, str(error))
        self._stopped = False
        return Answer(OK, f"{which} stands at its start, paused")

    def pause(self) -> Answer:
        """Stand still once the tick that is under way is over."""
        self._sim.pause()
        return Answer(OK, "paused")

    def unpause(self) -> Answer:
        """Go on."""
        if self._stepping is not None:
            return Answer(FAILED, "steps are being taken: wait for their answer, or reset")
        if (refusal := self._refusal()) is not None:
            return Answer(FAILED, refusal)
        self._stopped = False
        self._sim.run()
        return Answer(OK, "running")

    def step(self, steps: int, answer: Callable[[Answer], None]) -> None:
        """Take `steps` steps and stand still again; answers once they are taken, or cannot be."""
        sim = self._sim
        if steps < 1:
            answer(Answer(FAILED, f"{steps} steps: ask for 1 or more"))
            return
        if sim.running or self._stepping is not None:
            answer(Answer(FAILED, "pause first"))
            return
        if (refusal := self._refusal()) is not None:
            answer(Answer(FAILED, refusal))
            return
        self._stopped, self._stepping = False, answer
        left = steps

        def taken() -> None:
            nonlocal left
            left -= 1
            if self._stepping is not answer:
                return
            if left and not sim.over:
                sim.tick_once(taken)
                return
            self._stepping = None
            if left:
                answer(Answer(FAILED, f"the episode was over after {steps - left} of {steps} steps"))
            else:
                answer(Answer(OK, f"tick {sim.tick} reached"))

        sim.tick_once(taken)

    def set_state(self, target: State) -> Answer:
        """Go over into a state; from `stopped` into `playing` begins an episode where there is none."""
        sim = self._sim
        if target == "quitting":
            self._interrupt()
            sim.stop("a service asked it to quit")
            return Answer(OK, "quitting")
        if target == self.state:
            return Answer(ALREADY, f"it is {target}")
        if target == "stopped":
            done = self.reset()
            self._stopped = done.success
            return Answer(OK, "stopped, at the start of the episode") if done.success else done
        if not sim.begun and not (done := self.reset()).success:
            return Answer(TRANSITION, done.message)
        if target == "paused":
            self._stopped = False
            return self.pause()
        done = self.unpause()
        return done if done.success else Answer(TRANSITION, done.message)

    def _interrupt(self) -> None:
        """A step that is under way is answered, not left waiting for ever."""
        stepping, self._stepping = self._stepping, None
        if stepping is not None:
            stepping(Answer(FAILED, "the simulation was reset before the step was taken"))

    def _refusal(self) -> str | None:
        sim = self._sim
        if not sim.begun:
            return "no episode has begun: call ~/reset first"
        if sim.over:
            return "the episode is over: call ~/reset first"
        missing = sim.missing()
        return f"waiting for {', '.join(missing)}" if missing else None
