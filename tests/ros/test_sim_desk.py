"""What the simulation may be asked for, without ROS: states, steps, resets, simulation_interfaces' codes.

The package simulation_interfaces is on no registry of wheels. Its services are tried on doubles that have the
fields and constants of its files at 2.1.0; that real clients reach them over DDS is not covered here.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from episodes.errors import ConfigError
from ros_nodes.sim_desk import Answer, SimDesk
from ros_nodes.sim_services import serve_standard, serve_triggers, standard_types


class Toy:
    """A simulation of three steps; steps are taken when `go` says so."""

    def __init__(self) -> None:
        self.running = self.begun = False
        self.tick = 0
        self.absent: tuple[str, ...] = ()
        self.broken = False
        self.stopped_by = ""
        self.then: Callable[[], None] | None = None

    @property
    def over(self) -> bool:
        return self.tick == 3

    def missing(self) -> tuple[str, ...]:
        return self.absent

    def begin(self) -> str:
        if self.broken:
            raise ConfigError("split 'x' is unknown")
        self.running, self.begun, self.tick, self.then = False, True, 0, None
        return "episode 0 of seed 0"

    def run(self) -> None:
        self.running = True

    def pause(self) -> None:
        self.running = False

    def tick_once(self, then: Callable[[], None]) -> None:
        self.then = then

    def stop(self, reason: str) -> None:
        self.stopped_by = reason

    def go(self) -> None:
        then, self.then = self.then, None
        assert then is not None
        self.tick += 1
        then()


def test_steps_are_taken_in_a_pause_and_answered_when_all_are_taken() -> None:
    sim = Toy()
    desk = SimDesk(sim, time_restarts=True)
    said: list[Answer] = []
    desk.step(1, said.append)
    assert said.pop() == Answer("RESULT_OPERATION_FAILED", "no episode has begun: call ~/reset first")
    assert desk.reset().success
    desk.step(0, said.append)
    assert not said.pop().success
    desk.step(2, said.append)
    sim.go()
    assert said == []
    assert desk.state == "paused"
    desk.step(1, said.append)
    assert said.pop().message == "pause first", "one request at a time"
    assert not desk.unpause().success
    sim.go()
    assert said.pop() == Answer("RESULT_OK", "tick 2 reached")
    desk.step(5, said.append)
    sim.go()
    assert said.pop().message == "the episode was over after 1 of 5 steps"
    assert desk.reset().success
    desk.step(3, said.append)
    assert desk.reset().success
    assert said.pop().message == "the simulation was reset before the step was taken"
    assert desk.unpause().success
    desk.step(1, said.append)
    assert said.pop().message == "pause first"


def test_states_follow_those_of_simulation_interfaces() -> None:
    sim = Toy()
    desk = SimDesk(sim, time_restarts=True)
    assert desk.state == "stopped"
    assert desk.set_state("stopped").code == "ALREADY_IN_TARGET_STATE"
    sim.absent = ("node 'recorder'",)
    assert desk.set_state("playing") == Answer("STATE_TRANSITION_ERROR", "waiting for node 'recorder'")
    sim.absent = ()
    assert desk.set_state("playing").success
    assert (desk.state, sim.running) == ("playing", True)
    sim.tick = 2
    assert desk.set_state("paused").success
    assert (desk.state, sim.running, sim.tick) == ("paused", False, 2)
    assert desk.set_state("stopped").success
    assert (desk.state, sim.tick) == ("stopped", 0)
    assert desk.set_state("paused").success
    assert desk.state == "paused"
    sim.broken = True
    assert desk.set_state("stopped") == Answer("RESULT_OPERATION_FAILED", "split 'x' is unknown")
    assert desk.set_state("quitting").success
    assert sim.stopped_by


@pytest.mark.parametrize("restarts", [True, False])
def test_a_reset_of_what_cannot_be_reset_alone_is_refused(restarts: bool) -> None:
    sim = Toy()
    desk = SimDesk(sim, time_restarts=restarts)
    time, state, spawned = 1, 2, 4
    assert desk.reset(0).success
    assert desk.reset(255).success
    assert desk.reset(time).code == desk.reset(spawned).code == "RESULT_FEATURE_UNSUPPORTED"
    assert desk.reset(state).success is not restarts
    assert desk.reset(time | state | spawned).success is restarts
    assert ("SIMULATION_RESET_STATE" in desk.features) is not restarts


class Desk:
    """A loop that keeps the handlers."""

    def __init__(self) -> None:
        self.handlers: dict[str, Callable[..., None]] = {}

    def serve(self, kind: Any, name: str, handler: Callable[..., None]) -> None:
        self.handlers[name.removeprefix("~/")] = handler

    def trigger(self, name: str, handler: Callable[..., None]) -> None:
        self.handlers[name.removeprefix("~/")] = handler


def response(**fields: Any) -> type:
    """A response class with the result field and the constants of SetSimulationState."""

    def fill(self: Any) -> None:
        for name, value in fields.items():
            setattr(self, name, value())

    return type("Response", (), {"__init__": fill})


def doubles() -> tuple[Any, Any]:
    """simulation_interfaces.msg and .srv, as far as the simulation uses them."""
    result = {"result": lambda: SimpleNamespace(result=0, error_message="")}
    state = {"state": lambda: SimpleNamespace(state=0)}
    features = {"features": lambda: SimpleNamespace(features=[], spawn_formats=[], custom_info="")}
    setting = response(**result)
    for name, number in (
        ("ALREADY_IN_TARGET_STATE", 101), ("STATE_TRANSITION_ERROR", 102), ("INCORRECT_TRANSITION", 103)
    ):  # fmt: skip
        setattr(setting, name, number)
    msg = SimpleNamespace(
        Result=SimpleNamespace(
            RESULT_FEATURE_UNSUPPORTED=0, RESULT_OK=1, RESULT_NOT_FOUND=2, RESULT_INCORRECT_STATE=3,
            RESULT_OPERATION_FAILED=4,
        ),
        SimulatorFeatures=SimpleNamespace(
            SIMULATION_RESET=20, SIMULATION_RESET_TIME=21, SIMULATION_RESET_STATE=22,
            SIMULATION_STATE_GETTING=24, SIMULATION_STATE_SETTING=25, SIMULATION_STATE_PAUSE=26,
            STEP_SIMULATION_SINGLE=31, STEP_SIMULATION_MULTIPLE=32,
        ),
    )  # fmt: skip
    srv = SimpleNamespace(
        GetSimulatorFeatures=SimpleNamespace(Response=response(**features)),
        ResetSimulation=SimpleNamespace(Response=response(**result)),
        StepSimulation=SimpleNamespace(Response=response(**result)),
        SetSimulationState=SimpleNamespace(Response=setting),
        GetSimulationState=SimpleNamespace(Response=response(**result, **state)),
    )
    return msg, srv


def test_the_standards_services_answer_with_its_numbers() -> None:
    sim, loop = Toy(), Desk()
    serve_standard(loop, SimDesk(sim, time_restarts=True), doubles(), "a toy")  # type: ignore[arg-type]

    def ask(service: str, **request: Any) -> Any:
        answers: list[Any] = []
        loop.handlers[service](SimpleNamespace(**request), answers.append)
        return answers.pop() if answers else None

    def to_state(number: int) -> tuple[int, str]:
        result = ask("set_simulation_state", state=SimpleNamespace(state=number)).result
        return result.result, result.error_message

    features = ask("get_simulator_features").features
    assert features.features == [20, 24, 25, 26, 31, 32]
    assert features.custom_info == "a toy"
    assert ask("get_simulation_state").state.state == 0
    assert ask("step_simulation", steps=1).result.result == 4
    assert ask("reset_simulation", scope=0).result.result == 1
    assert ask("reset_simulation", scope=1).result.result == 0
    assert ask("get_simulation_state").state.state == 2
    assert to_state(2) == (101, "it is paused")
    assert to_state(4)[0] == 0
    assert ask("step_simulation", steps=2) is None, "answered when the steps are taken"
    sim.go()
    sim.go()
    assert sim.tick == 2
    assert to_state(1) == (1, "")
    assert ask("get_simulation_state").state.state == 1
    sim.running, sim.tick = False, 3
    assert to_state(1) == (102, "the episode is over: call ~/reset first")


def test_without_the_package_the_same_names_are_triggers_that_read_parameters() -> None:
    sim, standard, triggers = Toy(), Desk(), Desk()
    asked = [(2, "playng")]
    desk = SimDesk(sim, time_restarts=False)
    serve_standard(standard, desk, doubles(), "a toy")  # type: ignore[arg-type]
    serve_triggers(triggers, desk, lambda: asked[0], "a toy")  # type: ignore[arg-type]
    assert standard.handlers.keys() == triggers.handlers.keys()
    said: list[tuple[bool, str]] = []

    def ask(service: str) -> tuple[bool, str]:
        triggers.handlers[service](lambda *answer: said.append(answer))
        return said.pop()

    assert '"SIMULATION_RESET_STATE"' in ask("get_simulator_features")[1]
    assert ask("set_simulation_state") == (
        False, "parameter 'state' is 'playng': set it to stopped, playing, paused, quitting, then call again",
    )  # fmt: skip
    asked[0] = (2, "playing")
    assert ask("set_simulation_state")[0]
    assert ask("get_simulation_state") == (True, "playing")


def test_the_package_is_used_where_it_is_installed_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "simulation_interfaces", None)
    assert standard_types() is None
    msg, srv = doubles()
    modules = __import__("sys").modules
    monkeypatch.setitem(modules, "simulation_interfaces", SimpleNamespace())
    monkeypatch.setitem(modules, "simulation_interfaces.msg", msg)
    monkeypatch.setitem(modules, "simulation_interfaces.srv", srv)
    assert standard_types() == (msg, srv)
