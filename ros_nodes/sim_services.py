"""The services of the simulation node: its own, and those of simulation_interfaces.

    ~/reset Trigger, ~/pause SetBool, ~/step Trigger
    ~/get_simulator_features, ~/reset_simulation, ~/step_simulation, ~/set_simulation_state,
    ~/get_simulation_state

The second row has the types of simulation_interfaces (github.com/ros-simulation/simulation_interfaces, 1.x
and 2.x) where that package is installed (Debian package ros-jazzy-simulation-interfaces). It is on no
registry of Python wheels; without it the same names are Triggers, with the parameters `steps` and `state` for
what a request would hold, and the answer's message for what it would return.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

from std_srvs.srv import Trigger

from ros_nodes.loop import Reply, TakeLoop
from ros_nodes.sim_desk import OK, STATES, UNSUPPORTED, Answer, SimDesk, State

PACKAGE = "simulation_interfaces"
Parameters = Callable[[], tuple[int, str]]
"""The values of the parameters `steps` and `state`."""


def serve_own(loop: TakeLoop, desk: SimDesk) -> None:
    """Offer ~/reset, ~/pause and ~/step."""

    def tell(reply: Reply, answer: Answer) -> None:
        reply(answer.success, answer.message)

    loop.trigger("~/reset", lambda reply: tell(reply, desk.reset()))
    loop.switch("~/pause", lambda on, reply: tell(reply, desk.pause() if on else desk.unpause()))
    loop.trigger("~/step", lambda reply: desk.step(1, lambda answer: tell(reply, answer)))


def standard_types() -> tuple[ModuleType, ModuleType] | None:
    """simulation_interfaces' modules (msg, srv), or None where the package is not installed."""
    try:
        return importlib.import_module(f"{PACKAGE}.msg"), importlib.import_module(f"{PACKAGE}.srv")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != PACKAGE:
            raise
        return None


def serve_standard(loop: TakeLoop, desk: SimDesk, types: tuple[ModuleType, ModuleType], about: str) -> None:
    """Offer the services of simulation_interfaces with its own types.

    Args:
        loop: where they are served.
        desk: takes the requests.
        types: the package's modules msg and srv.
        about: `custom_info` of the features.
    """
    msg, srv = types

    def result(answer: Answer, response: Any) -> Any:
        # Codes above 100 belong to a service, the others to Result.
        holder = response if hasattr(response, answer.code) else msg.Result
        response.result.result = getattr(holder, answer.code)
        response.result.error_message = "" if answer.success else answer.message
        return response

    def features(request: Any, send: Callable[[Any], None]) -> None:
        response = srv.GetSimulatorFeatures.Response()
        response.features.features = [getattr(msg.SimulatorFeatures, name) for name in desk.features]
        response.features.custom_info = about
        send(response)

    def reset(request: Any, send: Callable[[Any], None]) -> None:
        send(result(desk.reset(int(request.scope)), srv.ResetSimulation.Response()))

    def step(request: Any, send: Callable[[Any], None]) -> None:
        desk.step(int(request.steps), lambda answer: send(result(answer, srv.StepSimulation.Response())))

    def set_state(request: Any, send: Callable[[Any], None]) -> None:
        number = int(request.state.state)
        answer = (
            desk.set_state(STATES[number])
            if number < len(STATES)
            else Answer(UNSUPPORTED, f"state {number}: there is one world, which is always loaded")
        )
        send(result(answer, srv.SetSimulationState.Response()))

    def get_state(request: Any, send: Callable[[Any], None]) -> None:
        response = result(Answer(OK, ""), srv.GetSimulationState.Response())
        response.state.state = STATES.index(desk.state)
        send(response)

    loop.serve(srv.GetSimulatorFeatures, "~/get_simulator_features", features)
    loop.serve(srv.ResetSimulation, "~/reset_simulation", reset)
    loop.serve(srv.StepSimulation, "~/step_simulation", step)
    loop.serve(srv.SetSimulationState, "~/set_simulation_state", set_state)
    loop.serve(srv.GetSimulationState, "~/get_simulation_state", get_state)


def serve_triggers(loop: TakeLoop, desk: SimDesk, parameters: Parameters, about: str) -> None:
    """Offer the same names as Triggers."""

    def features(reply: Reply) -> None:
        reply(True, json.dumps({"features": desk.features, "spawn_formats": [], "custom_info": about}))

    def tell(reply: Reply, answer: Answer) -> None:
        reply(answer.success, answer.message)

    def set_state(reply: Reply) -> None:
        wanted = parameters()[1]
        state: State | None = next((known for known in STATES if known == wanted), None)
        if state is None:
            reply(False, f"parameter 'state' is {wanted!r}: set it to {', '.join(STATES)}, then call again")
        else:
            tell(reply, desk.set_state(state))

    loop.trigger("~/get_simulator_features", features)
    loop.trigger("~/reset_simulation", lambda reply: tell(reply, desk.reset()))
    loop.trigger(
        "~/step_simulation", lambda reply: desk.step(parameters()[0], lambda answer: tell(reply, answer))
    )
    loop.trigger("~/set_simulation_state", set_state)
    loop.trigger("~/get_simulation_state", lambda reply: reply(True, desk.state))


def service_type_in_use() -> str:
    """For the log: which types the standard's names have here."""
    if standard_types() is not None:
        return f"services of {PACKAGE}"
    return f"{PACKAGE} is not installed: its services are {Trigger.__module__.split('.')[0]}/Trigger here"
