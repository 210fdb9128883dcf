"""The stack `deploy` with real processes on the simulated arm, which stands in for the robot."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from std_srvs.srv import SetBool

from bench.drills.handover import steps
from bench.drills.network import write_bundle
from bench.drills.watch import Watch
from bench.lockstep import write_small_bundle
from episodes.contract import load_contract
from episodes.dataset import Dataset
from policy.runtime.limits import Limits
from ros_nodes.recorder.remote import RemoteRecorder

from .conftest import PATIENCE_NS, ROOT, NodeProcess, Peer
from .test_failures import call

CONTRACT = ROOT / "launch/contracts/arm6_sim_state.yaml"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_bundle(tmp_path_factory.mktemp("bundle") / "arm", load_contract(CONTRACT))


@contextmanager
def deploy(
    domain: int, folder: Path, *words: object, contract: Path = CONTRACT
) -> Iterator[subprocess.Popen[str]]:
    """`armchair up deploy` in the domain of the robot."""
    given = ["up", "--domain", domain, "--folder", folder / "run", "deploy", "--contract", contract, *words]
    popen = subprocess.Popen(
        [sys.executable, "-m", "armchair", *map(str, given)], cwd=ROOT, env=dict(os.environ), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield popen
    finally:
        if popen.poll() is None:
            popen.send_signal(signal.SIGINT)
            popen.communicate(timeout=PATIENCE_NS / 1e9)


def child(popen: subprocess.Popen[str], module: str) -> int:
    """The process that runs a module."""
    for pid in Path(f"/proc/{popen.pid}/task/{popen.pid}/children").read_text().split():
        if module in Path(f"/proc/{pid}/cmdline").read_text().split("\0"):
            return int(pid)
    raise AssertionError(f"{module} does not run")


def test_when_control_dies_the_stack_ends_and_the_recorder_closes_its_file(
    litter_of_the_killed: None,
    domain: int,
    peer: Peer,
    start: Callable[..., NodeProcess],
    bundle: Path,
    tmp_path: Path,
) -> None:
    start("sim_node", contract=CONTRACT, mode="realtime", autostart=True)
    recorder = RemoteRecorder(peer.node, peer.loop)

    def samples(name: str) -> int:
        return (
            0
            if recorder.status is None
            else {s.name: s.samples for s in recorder.status.streams}.get(name, 0)
        )

    with deploy(domain, tmp_path, "--bundle", bundle, "--dataset", tmp_path / "data") as popen:
        peer.until(lambda: recorder.is_there and samples("state") > 0 and samples("joints") > 0)
        assert recorder.call("start")[0]
        peer.until(lambda: call(peer, SetBool, "control/enable", data=True)[0])
        os.kill(child(popen, "ros_nodes.control_node"), signal.SIGKILL)
        text, _ = popen.communicate(timeout=PATIENCE_NS / 1e9)
    assert popen.returncode == 2
    assert "process 'control' ended with signal SIGKILL" in text
    (episode,) = Dataset.open(tmp_path / "data").infos()
    assert episode.outcome == "failure"
    assert episode.samples["state"] > 0


def camera_apart(folder: Path) -> tuple[Path, Path, Path]:
    """(robot, its simulation, parameters): the joint arm with a camera that is a process of the stack."""
    content = yaml.safe_load((ROOT / "launch/contracts/arm6_sim.yaml").read_text())
    kept = {name: content["observations"][name] for name in ("joints", "side")}
    pictures = folder / "pictures"
    pictures.mkdir()
    for k in range(8):
        rng = np.random.default_rng(k)
        cv2.imwrite(str(pictures / f"{k}.png"), rng.integers(0, 256, (84, 84, 3), np.uint8))
    kept["side"]["topic"] = "camera/side/color/image_raw"
    robot, simulated, params = (folder / f"{name}.yaml" for name in ("robot", "simulated", "params"))
    simulation = {"environment": "arm6/pick-place", "cameras": {}}
    common = content | {"reference": "joints", "simulation": simulation}
    robot.write_text(yaml.safe_dump(common | {"observations": kept}, sort_keys=False))
    simulated.write_text(
        yaml.safe_dump(common | {"observations": {"joints": kept["joints"]}}, sort_keys=False)
    )
    side = {"backend": "files", "files.path": str(pictures), "files.rate_hz": 20.0, "files.loop": True}
    control = {"rate_hz": 200.0}
    params.write_text(
        yaml.safe_dump(
            {f"/**/{n}": {"ros__parameters": v} for n, v in (("side", side), ("control", control))}
        )
    )
    return robot, simulated, params


def test_when_a_camera_dies_control_brings_the_moving_arm_to_rest_before_the_stack_ends(
    litter_of_the_killed: None,
    domain: int,
    peer: Peer,
    start: Callable[..., NodeProcess],
    tmp_path: Path,
) -> None:
    path, simulated, params = camera_apart(tmp_path)
    contract = load_contract(path)
    bundle = write_bundle(tmp_path / "bundle", contract, 4)
    start("sim_node", contract=simulated, mode="realtime", autostart=True, horizon=0, interpolation_s=0.1)
    watch = Watch(peer.loop, contract)
    words = ("--bundle", bundle, "--cameras", "side", "--params", params)
    with deploy(domain, tmp_path, *words, contract=path) as popen:
        peer.until(lambda: watch.stands and call(peer, SetBool, "control/enable", data=True)[0])
        peer.until(lambda: watch.pace > 0.5)
        killed_ns = time.time_ns()
        os.kill(child(popen, "ros_nodes.camera_node"), signal.SIGKILL)
        peer.until(lambda: popen.poll() is not None)
        text, _ = popen.communicate(timeout=PATIENCE_NS / 1e9)
    peer.until(lambda: watch.rest_ns(killed_ns) is not None)
    assert popen.returncode == 2
    assert "process 'side' ended with signal SIGKILL" in text
    after = [sent for sent in watch.commands if sent.time_ns > killed_ns]
    assert {sent.source for sent in after[-5:]} == {"safety"}
    assert np.array_equal(after[-1].values, after[-2].values), "control falls silent at rest"
    values = np.array([sent.values for sent in watch.commands])
    stamps = np.array([sent.stamp_ns for sent in watch.commands])
    found = steps(values, stamps, Limits.of(contract, 5_000_000))
    assert max(found.velocity, found.acceleration) <= 1 + 1e-6
