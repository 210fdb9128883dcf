"""The arm's tasks as an `Env`: one step is one policy tick of 50 ms, through the real-time node's driver.

In real time the same environment is stepped finer: `driver.apply` and `driver.advance` as often as wanted,
and `end_tick` once per period; see `sim.arm6.driver`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from episodes.errors import ConfigError
from sim.appearance import Appearance
from sim.arm6.driver import DriverConfig, ForwardDriver
from sim.arm6.model import ACTION_NAMES, CAMERAS, GRIPPER, JOINTS, TASKS
from sim.arm6.plant import Plant, settle
from sim.arm6.tasks import Scene, draw, outcome
from sim.env import EnvSpec, Split, Step, checked_action
from sim.gl import Choice, RendererName, load_mujoco
from sim.render import Quality, Renderer

PREFIX = "arm6/"
PERIOD_NS = 50_000_000
STATE_NAMES = (
    *ACTION_NAMES,
    *(f"{name}_velocity" for name in ACTION_NAMES),
    *(f"tool_{axis}" for axis in "xyz"),
    *(f"object_{part}" for part in ("x", "y", "z", "qx", "qy", "qz", "qw")),
    *(f"goal_{axis}" for axis in "xyz"),
)
"""The object is the cube, the puck, the drawer's handle, or in reach the tool itself: in every task it is to
come to the goal."""
_SPECS = (*JOINTS, GRIPPER)


class SceneView:
    """Draws snapshots of a scene while its physics goes on. GL contexts belong to one thread: so does this.

    Args:
        model: the scene's MjModel, shared with the physics, which only reads it.
        wanted: which library draws.
        quality: `fast`, or `default` for shadows and multi-sampling.
    """

    def __init__(self, model: Any, wanted: RendererName, quality: Quality) -> None:
        self._mujoco = load_mujoco(wanted)
        self._model, self._data = model, self._mujoco.MjData(model)
        self._renderer = Renderer(model, wanted, quality)

    @property
    def choice(self) -> Choice:
        """What draws and why."""
        return self._renderer.choice

    def render(
        self, snapshot: NDArray[np.float64], camera: str, height: int, width: int
    ) -> NDArray[np.uint8]:
        """(height, width, 3) uint8 RGB of a snapshot; errors are those of `Renderer.render`."""
        mujoco, model, data = self._mujoco, self._model, self._data
        mujoco.mj_setState(model, data, snapshot, mujoco.mjtState.mjSTATE_INTEGRATION)
        settle(mujoco, model, data)
        return self._renderer.render(data, camera, height, width)

    def close(self) -> None:
        """Free the GL contexts, in the thread that made them."""
        self._renderer.close()


class Arm6Env:
    """One of the arm's tasks. The action is the six joint positions (rad) and the gripper's opening (m).

    Args:
        task: reach (touch the green target), pick-place (put the red cube on the blue pad), push (push the
            red puck onto the blue disc) or drawer (pull the drawer until its handle is at the green mark).
        horizon: steps per episode.
        split: which goals, training or evaluation; the two share none.
        renderer: which library draws; nothing is loaded before the first `render`.
        quality: `fast`, or `default` for shadows and multi-sampling.
        driver: timing of the driver.
        watch: keep the worst values of every physics step in `driver`.

    Raises:
        ConfigError: unknown task or split, or a horizon below 1.
        MachineError: mujoco is not installed.
    """

    def __init__(
        self,
        task: str,
        *,
        horizon: int = 150,
        split: Split = "train",
        renderer: RendererName = "auto",
        quality: Quality = "fast",
        driver: DriverConfig | None = None,
        watch: bool = False,
    ) -> None:
        if horizon < 1:
            raise ConfigError(f"horizon {horizon} is out of range: an episode has 1 step or more.")
        self._task, self._split = task, split
        self._wanted: RendererName = renderer
        self._quality: Quality = quality
        self._plant = Plant(task, renderer)
        draw(task, split, 0, 0)
        self.driver = ForwardDriver(self._plant, driver, watch=watch)
        self._spec = EnvSpec(
            name=PREFIX + task,
            period_ns=PERIOD_NS,
            horizon=horizon,
            action_lower=np.array([s.lower for s in _SPECS]),
            action_upper=np.array([s.upper for s in _SPECS]),
            action_names=ACTION_NAMES,
            observation_names={"state": STATE_NAMES, "joints": ACTION_NAMES},
            cameras=CAMERAS,
            source=f"armchair arm6 on mujoco {self._plant.version}",
        )
        self._begun = False
        self._taken = 0
        self._goal_m = np.zeros(3)
        self._renderer: Renderer | None = None
        self.appearance: Appearance | None = None
        """How pictures look other than modelled."""

    @property
    def spec(self) -> EnvSpec:
        """What is fixed about the environment."""
        return self._spec

    @property
    def goal_m(self) -> NDArray[np.float64]:
        """(3,) The goal of the present episode."""
        return self._goal_m.copy()

    @property
    def renderer(self) -> Choice | None:
        """What draws and why, None before the first frame."""
        return None if self._renderer is None else self._renderer.choice

    def reset(self, *, seed: int, episode: int) -> Step:
        """Begin an episode; see `Env.reset`. Raises ConfigError when seed or episode is negative."""
        layout = draw(self._task, self._split, seed, episode)
        self._plant.reset(layout.goal_m, layout.cube_m, layout.cube_yaw_rad)
        self.driver.reset(0)
        self._goal_m = layout.goal_m
        self._begun, self._taken = True, 0
        step = self._look()
        return Step(step.observation, 0.0, False, False, step.success)

    def step(self, action: ArrayLike) -> Step:
        """Advance by 50 ms; see `Env.step`. Never terminates: success does not end an episode."""
        self._need_running()
        command = checked_action(action, self._spec)
        self.driver.apply(command, self._taken * PERIOD_NS)
        self.driver.advance(PERIOD_NS)
        return self.end_tick()

    def end_tick(self) -> Step:
        """A period is over that was stepped through `driver`: count it, and look."""
        self._need_running()
        self._taken += 1
        return self._look()

    def snapshot(self) -> NDArray[np.float64]:
        """The physics of this moment, for a `SceneView` that draws it later or elsewhere."""
        return self._plant.state

    def view(self) -> SceneView:
        """Eyes of their own on snapshots; to be made in the thread that uses them."""
        return SceneView(self._plant.model, self._wanted, self._quality)

    def render(self, camera: str, height: int, width: int) -> NDArray[np.uint8]:
        """The present state; see `Env.render`."""
        self._need_episode()
        if self._renderer is None:
            self._renderer = Renderer(self._plant.model, self._wanted, self._quality)
        self._plant.settle()
        self._renderer.appearance = self.appearance
        return self._renderer.render(self._plant.data, camera, height, width)

    def save_state(self) -> NDArray[np.uint8]:
        """The whole state; see `Env.save_state`."""
        self._need_episode()
        task = float(TASKS.index(self._task))
        parts = [np.array([task, self._taken]), self._goal_m, self.driver.state, self._plant.state]
        return np.frombuffer(np.concatenate(parts).tobytes(), dtype=np.uint8).copy()

    def restore_state(self, state: NDArray[np.uint8]) -> Step:
        """Go back; see `Env.restore_state`. Raises ConfigError for a state of another task."""
        values = np.frombuffer(np.ascontiguousarray(state, dtype=np.uint8).tobytes())
        driver_size = len(self.driver.state)
        expected = 5 + driver_size + self._plant.state_size
        if len(values) != expected or values[0] != float(TASKS.index(self._task)):
            raise ConfigError(
                f"the saved state is not one of {self._spec.name}: restore it where it came from."
            )
        self._begun, self._taken = True, int(values[1])
        self._goal_m = values[2:5].copy()
        self.driver.state = values[5 : 5 + driver_size]
        self._plant.state = values[5 + driver_size :].copy()
        return self._look()

    def close(self) -> None:
        """Free GL contexts; see `Env.close`."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
        self._begun = False

    def _look(self) -> Step:
        plant = self._plant
        plant.settle()
        positions, tool = plant.positions, plant.tool_m
        if plant.has_cube:
            centre, orientation, speed = plant.cube
        elif plant.has_drawer:
            centre, orientation, speed = plant.drawer
        else:
            centre, orientation, speed = tool, plant.tool_quaternion, 0.0
        scene = Scene(tool, self._goal_m, float(positions[6]), centre, speed)
        reward, success = outcome(self._task, scene)
        parts = [positions, plant.velocities, tool, centre, orientation, self._goal_m]
        observation = {"state": np.concatenate(parts), "joints": positions}
        return Step(observation, reward, False, self._taken >= self._spec.horizon, success)

    def _need_episode(self) -> None:
        if not self._begun:
            raise RuntimeError("no episode has begun: call reset first")

    def _need_running(self) -> None:
        self._need_episode()
        if self._taken >= self._spec.horizon:
            raise RuntimeError(f"the episode ended after {self._taken} steps: reset before the next step")
