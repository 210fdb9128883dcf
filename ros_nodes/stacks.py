"""Every stack, declared once as data: which processes, with which parameters. Needs no ROS itself.

`armchair up STACK` runs them (`ros_nodes.up`) where no `ros2 launch` is installed, `launch/*.launch.py`
turns the same declarations into launch actions. The fields of a stack are its options in both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from episodes.contract import Contract, load_contract
from episodes.errors import ConfigError, ContractError, MachineError
from policy.runtime.bundle import Bundle
from sim.env import Split
from sim.gl import RendererName

Value = str | bool | int | float | tuple[str, ...]


@dataclass(frozen=True)
class Process:
    """One process: the node `name`, run as `python -m module` or as the executable of that name."""

    name: str
    module: str
    parameters: Mapping[str, Value]
    environment: Mapping[str, str] = field(default_factory=dict)
    parameter_file: Path | None = None
    """A ROS parameter file; `parameters` win over it."""
    ends_stack: bool = False
    """Whether the stack is finished when this process is. Any other process that ends is a failure."""

    @property
    def executable(self) -> str:
        """Name under which the package installs it: `sim_node` for module `ros_nodes.sim_node`."""
        return self.module.rsplit(".", 1)[1]


def launch_folder() -> Path:
    """The folder `launch/`: beside `ros_nodes` in a checkout, in the package's share folder once installed.

    Raises:
        MachineError: neither is there.
    """
    checkout = Path(__file__).resolve().parent.parent / "launch"
    if checkout.is_dir():
        return checkout
    try:
        from ament_index_python.packages import get_package_share_directory

        return Path(get_package_share_directory("armchair")) / "launch"
    except (ImportError, LookupError) as error:
        raise MachineError(
            f"the launch folder is not installed ({error}): run from a checkout, or build with colcon and "
            "source install/setup.bash."
        ) from error


def resolved(path: Path) -> str:
    """`path` made absolute; a stack's relative default is also looked for beside the launch folder."""
    if not path.is_absolute() and not path.exists() and (shipped := launch_folder().parent / path).exists():
        return str(shipped)
    return str(path.absolute())


@dataclass(frozen=True)
class CollectExpert:
    """Record episodes of the scripted expert: simulation, expert, recorder and session in lock-step."""

    dataset: Annotated[Path, tyro.conf.Positional]
    """Dataset folder; made if it is not there."""
    contract: Path = Path("launch/contracts/sawyer_sim.yaml")
    """Robot contract."""
    episodes: int = 4
    """How many."""
    first: int = 0
    """Number of the first one; episode and seed fix the goal. Ids are s<seed>-e<number>."""
    seed: int = 0
    """Seed of the goals."""
    horizon: int = 150
    """Steps per episode."""
    renderer: RendererName = "auto"
    """What draws: auto, egl, osmesa or raycast."""

    def processes(self, run_folder: Path) -> tuple[Process, ...]:
        """The processes; `run_folder` gets the session's results.json."""
        robot = load_contract(resolved(self.contract))
        nodes = ("sim", "expert", "recorder")
        expert: dict[str, Value] = {"contract": robot.source, "listeners": ("sim", "recorder")}
        return (
            _lockstep_sim(self, robot, "train", ("expert", "recorder"), recording=True),
            Process("expert", "ros_nodes.expert_node", expert),
            _sim_recorder(robot, self.dataset, "expert"),
            _session(self, robot, run_folder, nodes, "expert", "expert", self.dataset, "train"),
        )


@dataclass(frozen=True)
class DeploySim:
    """Drive the simulation with a policy bundle in lock-step: simulation, policy, control, recorder and
    session."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """Bundle folder that `armchair export` wrote."""
    contract: Path = Path("launch/contracts/sawyer_sim.yaml")
    """Robot contract; the bundle must fit it."""
    dataset: Path | None = None
    """Dataset folder that the deployment records itself to; none: no recording."""
    episodes: int = 20
    """How many."""
    first: int = 0
    """Number of the first one; episode, seed and split fix the goal."""
    seed: int = 0
    """Seed of the goals."""
    split: Split = "evaluation"
    """Which goals: evaluation or train; the two share none."""
    horizon: int = 150
    """Steps per episode."""
    renderer: RendererName = "auto"
    """What draws: auto, egl, osmesa or raycast."""

    def processes(self, run_folder: Path) -> tuple[Process, ...]:
        """The processes; `run_folder` gets the session's results.json.

        Raises:
            BundleError: the bundle is damaged or does not fit the robot.
        """
        robot = load_contract(resolved(self.contract))
        bundle = Bundle.load(resolved(self.bundle), robot_contract=robot)
        operator = f"policy {bundle.manifest.name} {bundle.sha256[:12]}"
        recorder = ("recorder",) if self.dataset else ()
        listeners = ("policy", "control", *recorder)
        policy: dict[str, Value] = {
            "contract": robot.source, "bundle": str(bundle.path), "listeners": ("control",),
        }  # fmt: skip
        control: dict[str, Value] = {"contract": robot.source, "listeners": ("sim", *recorder)}
        return (
            _lockstep_sim(self, robot, self.split, listeners, recording=bool(recorder)),
            Process("policy", "ros_nodes.policy_node", policy),
            Process("control", "ros_nodes.control_node", control),
            *([_sim_recorder(robot, self.dataset, operator)] if self.dataset else []),
            _session(
                self, robot, run_folder, ("sim", *listeners), "policy", operator, self.dataset, self.split
            ),
        )


@dataclass(frozen=True)
class Sim:
    """The simulation alone in real time, to be recorded and driven like a robot."""

    contract: Path = Path("launch/contracts/sawyer_sim.yaml")
    """Robot contract."""
    seed: int = 0
    """Seed of the goals."""
    split: Split = "train"
    """Which goals: train or evaluation; the two share none."""
    horizon: int = 150
    """Steps per episode; the next one begins by itself."""
    renderer: RendererName = "auto"
    """What draws: auto, egl, osmesa or raycast."""

    params: Path | None = None
    """ROS parameter file for the nodes, such as those in launch/params; none: their defaults."""

    def processes(self, run_folder: Path) -> tuple[Process, ...]:
        """The process."""
        parameters: dict[str, Value] = {
            "contract": resolved(self.contract), "mode": "realtime", "autostart": True, "seed": self.seed,
            "split": self.split, "horizon": self.horizon, "renderer": self.renderer,
        }  # fmt: skip
        return (Process("sim", "ros_nodes.sim_node", parameters, parameter_file=_file(self.params)),)


@dataclass(frozen=True)
class Record:
    """Record a robot: the recorder, driven by its services (recorder/start, recorder/success, ...) or by
    `armchair record`, and cameras."""

    contract: Path
    """Robot contract."""
    dataset: Path
    """Dataset folder; made if it is not there."""
    task: str = ""
    """What the robot is to do, stored with each episode."""
    operator: str = ""
    """Who operates it, stored with each episode."""

    params: Path | None = None
    """ROS parameter file for the nodes, such as those in launch/params; none: their defaults."""
    cameras: tuple[str, ...] = ()
    """Cameras to start: names of camera nodes, whose parameters stand in the parameter file."""

    def processes(self, run_folder: Path) -> tuple[Process, ...]:
        """The processes.

        Raises:
            ConfigError: cameras without a parameter file.
        """
        if self.cameras and self.params is None:
            raise ConfigError(
                f"cameras {', '.join(self.cameras)}: give the file with their parameters with --params, one "
                "entry '/**/<name>: ros__parameters:' each (docs/cameras.md)."
            )
        parameters: dict[str, Value] = {
            "contract": resolved(self.contract), "dataset": str(self.dataset.absolute()),
            "task": self.task, "operator": self.operator,
        }  # fmt: skip
        file = _file(self.params)
        return (
            *(
                Process(name, "ros_nodes.camera_node", {"camera_name": name}, parameter_file=file)
                for name in self.cameras
            ),
            Process("recorder", "ros_nodes.recorder_node", parameters, parameter_file=file),
        )


@dataclass(frozen=True)
class Deploy:
    """Drive a robot with a policy bundle: policy and control in real time, and a recorder if asked for."""

    contract: Path
    """Robot contract; the bundle must fit it."""
    bundle: Path
    """Bundle folder that `armchair export` wrote."""
    dataset: Path | None = None
    """Dataset folder that the deployment records itself to; none: no recording."""
    task: str = ""
    """What the robot is to do, stored with each episode."""
    operator: str = ""
    """Who operates it, stored with each episode."""

    params: Path | None = None
    """ROS parameter file for the nodes, such as those in launch/params; none: their defaults."""

    def processes(self, run_folder: Path) -> tuple[Process, ...]:
        """The processes. Control begins disabled: call control/enable."""
        contract, file = resolved(self.contract), _file(self.params)
        policy: dict[str, Value] = {
            "contract": contract, "bundle": resolved(self.bundle), "mode": "realtime",
        }  # fmt: skip
        control: dict[str, Value] = {"contract": contract, "mode": "realtime"}
        recorder = (
            Record(self.contract, self.dataset, self.task, self.operator, self.params)
            if self.dataset
            else None
        )
        return (
            Process("policy", "ros_nodes.policy_node", policy, parameter_file=file),
            Process("control", "ros_nodes.control_node", control, parameter_file=file),
            *(recorder.processes(run_folder) if recorder else ()),
        )


Stack = CollectExpert | DeploySim | Sim | Record | Deploy
STACKS: dict[str, type] = {
    "collect-expert": CollectExpert,
    "deploy-sim": DeploySim,
    "sim": Sim,
    "record": Record,
    "deploy": Deploy,
}
"""Name of each stack on the command line."""


def _file(path: Path | None) -> Path | None:
    return None if path is None else Path(resolved(path))


def _lockstep_sim(
    stack: CollectExpert | DeploySim,
    robot: Contract,
    split: str,
    listeners: tuple[str, ...],
    *,
    recording: bool,
) -> Process:
    parameters: dict[str, Value] = {
        "contract": robot.source, "mode": "lockstep", "horizon": stack.horizon, "split": split,
        "renderer": stack.renderer, "listeners": listeners, "barrier": ("recorder/ack",) if recording else (),
    }  # fmt: skip
    return Process("sim", "ros_nodes.sim_node", parameters)


def _sim_recorder(robot: Contract, dataset: Path, operator: str) -> Process:
    parameters: dict[str, Value] = {
        "contract": robot.source, "dataset": str(dataset.absolute()), "mode": "lockstep",
        "operator": operator, "task": _environment(robot), "listeners": ("sim",),
    }  # fmt: skip
    return Process("recorder", "ros_nodes.recorder_node", parameters)


def _session(
    stack: CollectExpert | DeploySim,
    robot: Contract,
    run_folder: Path,
    nodes: tuple[str, ...],
    actor: str,
    operator: str,
    dataset: Path | None,
    split: str,
) -> Process:
    about = {
        "operator": operator, "task": _environment(robot), "split": split, "seed": stack.seed,
        "horizon": stack.horizon, "interface": robot.interface_sha256, "limits": robot.limits_sha256,
    }  # fmt: skip
    parameters: dict[str, Value] = {
        "nodes": nodes, "actors": (actor,), "about": json.dumps(about),
        "episodes": stack.episodes, "first": stack.first, "seed": stack.seed,
        "dataset": str(dataset.absolute()) if dataset else "",
        "prefix": "" if split == "train" else f"{split}-",
        "results": str(run_folder.absolute() / "results.json"),
    }  # fmt: skip
    return Process("session", "ros_nodes.session_node", parameters, ends_stack=True)


def _environment(robot: Contract) -> str:
    if robot.simulation is None:
        raise ContractError(f"{robot.source}: key 'simulation' is missing: this contract is of a real robot.")
    return robot.simulation.environment
