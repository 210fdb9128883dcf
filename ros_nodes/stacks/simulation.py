"""The stacks around a simulation: demonstrations of the scripted expert, deployment in lock-step, a stand-in
for a robot."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from episodes.contract import Contract, load_contract
from episodes.errors import ContractError
from policy.runtime.bundle import Bundle
from ros_nodes.stacks.process import Process, Value, parameter_file, resolved
from sim.contracts import made_text, shipped_for
from sim.env import Split
from sim.gl import RendererName
from sim.make import horizon_of


@dataclass(frozen=True)
class CollectExpert:
    """Record episodes of the scripted expert: simulation, expert, recorder and session in lock-step."""

    scope = "simulation"

    dataset: Annotated[Path, tyro.conf.Positional]
    """Dataset folder; made if it is not there."""
    contract: Path = Path("launch/contracts/sawyer_sim.yaml")
    """Robot contract."""
    env: str = ""
    """Environment, for example arm6/reach; left out: the one that the contract names."""
    episodes: int = 4
    """How many."""
    first: int = 0
    """Number of the first one; episode and seed fix the goal. Ids are s<seed>-e<number>."""
    seed: int = 0
    """Seed of the goals."""
    horizon: int | None = None
    """Steps per episode; left out: the environment's own."""
    renderer: RendererName = "auto"
    """What draws: auto, egl, osmesa or raycast."""

    def processes(self, run_folder: Path) -> tuple[Process, ...]:
        """The processes; `run_folder` gets the session's results.json."""
        robot = load_contract(resolved(self.contract))
        nodes = ("sim", "expert", "recorder")
        expert: dict[str, Value] = {
            "contract": robot.source, "environment": self.env, "listeners": ("sim", "recorder"),
        }  # fmt: skip
        return (
            _lockstep_sim(self, robot, "train", ("expert", "recorder"), recording=True),
            Process("expert", "ros_nodes.expert_node", expert),
            _sim_recorder(self, robot, self.dataset, "expert"),
            _session(self, robot, run_folder, nodes, "expert", "expert", self.dataset, "train"),
        )


@dataclass(frozen=True)
class DeploySim:
    """Drive the simulation with a policy bundle in lock-step: simulation, policy, control, recorder and
    session."""

    scope = "simulation"

    bundle: Annotated[Path, tyro.conf.Positional]
    """Bundle folder that `armchair export` wrote."""
    contract: Path = Path("launch/contracts/sawyer_sim.yaml")
    """Robot contract; the bundle must fit it."""
    env: str = ""
    """Environment, for example arm6/reach; left out: the one that the contract names."""
    dataset: Path | None = None
    """Dataset folder that the deployment records itself to; left out: no recording."""
    episodes: int = 20
    """How many."""
    first: int = 0
    """Number of the first one; episode, seed and split fix the goal."""
    seed: int = 0
    """Seed of the goals."""
    split: Split = "evaluation"
    """Which goals: evaluation or train; the two share none."""
    horizon: int | None = None
    """Steps per episode; left out: the environment's own."""
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
            *([_sim_recorder(self, robot, self.dataset, operator)] if self.dataset else []),
            _session(
                self, robot, run_folder, ("sim", *listeners), "policy", operator, self.dataset, self.split
            ),
        )


@dataclass(frozen=True)
class Sim:
    """The simulation alone in real time, to be recorded and driven like a robot."""

    scope = "stand-in"

    contract: Path | None = None
    """Robot contract; left out: that of the environment's family in launch/contracts, or one made for the
    environment, which is written into the run folder as contract.yaml."""
    env: str = ""
    """Environment, any that armchair sim list names; left out: the one that the contract names."""
    mode: Literal["realtime", "asfast"] = "realtime"
    """realtime, or asfast: without a pace, on simulated time (use_sim_time on all other nodes)."""
    speed: float = 1.0
    """Simulated seconds per second in real time; other than 1, /clock is published (use_sim_time on all other
    nodes)."""
    seed: int = 0
    """Seed of the goals."""
    split: Split = "train"
    """Which goals: train or evaluation; the two share none."""
    horizon: int | None = None
    """Steps per episode, after which the next one begins by itself; 0, in real time: no end. Left out:
    the environment's own."""
    renderer: RendererName = "auto"
    """What draws: auto, egl, osmesa or raycast."""

    params: Path | None = None
    """ROS parameter file for the nodes, such as those in launch/params; left out: their
    defaults."""

    def processes(self, run_folder: Path) -> tuple[Process, ...]:
        """The process."""
        parameters: dict[str, Value] = {
            "contract": self._contract(run_folder), "environment": self.env, "mode": self.mode,
            "autostart": True, "seed": self.seed, "split": self.split, "renderer": self.renderer,
            "speed": float(self.speed), "publish_clock": self.speed != 1.0,
        }  # fmt: skip
        horizon = self.horizon
        if horizon is None:
            horizon = _own_horizon(self.env, load_contract(str(parameters["contract"])))
        parameters["horizon"] = horizon
        return (Process("sim", "ros_nodes.sim_node", parameters, parameter_file=parameter_file(self.params)),)

    def _contract(self, run_folder: Path) -> str:
        path = self.contract or shipped_for(self.env)
        if path is not None:
            return resolved(path)
        made = run_folder.absolute() / "contract.yaml"
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text(made_text(self.env), encoding="utf-8")
        return str(made)


@dataclass(frozen=True)
class StandIn:
    """A stand-in for a robot's drivers, made from its contract alone, to try a contract without the robot.

    It publishes what the contract observes and follows commands at the contract's speed; no more is real.
    """

    contract: Annotated[Path, tyro.conf.Positional]
    """Robot contract."""
    camera_hz: float = 30.0
    """Pictures per second; 0: none, for cameras that are there or come from files."""

    sway: float = 0.0
    """How far joints without a command go to either side, in the contract's unit: as if led by hand."""

    scope = "stand-in"

    def processes(self, run_folder: Path) -> tuple[Process, ...]:
        """The process."""
        parameters: dict[str, Value] = {
            "contract": resolved(self.contract), "camera_hz": self.camera_hz, "sway": self.sway,
        }  # fmt: skip
        return (Process("stand_in", "ros_nodes.stand_in_node", parameters),)


def _lockstep_sim(
    stack: CollectExpert | DeploySim,
    robot: Contract,
    split: str,
    listeners: tuple[str, ...],
    *,
    recording: bool,
) -> Process:
    parameters: dict[str, Value] = {
        "contract": robot.source, "environment": stack.env, "mode": "lockstep",
        "horizon": _horizon(stack, robot),
        "split": split, "renderer": stack.renderer, "listeners": listeners,
        "barrier": ("recorder/ack",) if recording else (),
    }  # fmt: skip
    return Process("sim", "ros_nodes.sim_node", parameters)


def _sim_recorder(stack: CollectExpert | DeploySim, robot: Contract, dataset: Path, operator: str) -> Process:
    parameters: dict[str, Value] = {
        "contract": robot.source, "dataset": str(dataset.absolute()), "mode": "lockstep",
        "operator": operator, "task": _environment(stack, robot), "listeners": ("sim",),
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
        "operator": operator, "task": _environment(stack, robot), "split": split, "seed": stack.seed,
        "horizon": _horizon(stack, robot), "interface": robot.interface_sha256, "limits": robot.limits_sha256,
    }  # fmt: skip
    parameters: dict[str, Value] = {
        "nodes": nodes, "actors": (actor,), "about": json.dumps(about),
        "episodes": stack.episodes, "first": stack.first, "seed": stack.seed,
        "dataset": str(dataset.absolute()) if dataset else "",
        "prefix": "" if split == "train" else f"{split}-",
        "results": str(run_folder.absolute() / "results.json"),
    }  # fmt: skip
    return Process("session", "ros_nodes.session_node", parameters, ends_stack=True)


def _horizon(stack: CollectExpert | DeploySim, robot: Contract) -> int:
    return _own_horizon(stack.env, robot) if stack.horizon is None else stack.horizon


def _own_horizon(env: str, robot: Contract) -> int:
    """Steps per episode of an environment, or of the one that the contract names."""
    return horizon_of(env or (robot.simulation.environment if robot.simulation else ""))


def _environment(stack: CollectExpert | DeploySim, robot: Contract) -> str:
    if robot.simulation is None:
        raise ContractError(f"{robot.source}: key 'simulation' is missing: this contract is of a real robot.")
    return stack.env or robot.simulation.environment
