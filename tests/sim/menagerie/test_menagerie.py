"""Models laid out as MuJoCo Menagerie has them, written here: an arm with servos, a machine with motors.

No model of the real Menagerie is on this machine; what was seen of some stands in docs/sim.md.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import armchair
from episodes.contract import load_contract
from episodes.errors import ConfigError, MachineError
from sim.behaviours import acts
from sim.catalogue import environments
from sim.conformance import EnvConformance
from sim.contracts import contract_of
from sim.env import Env
from sim.make import horizon_of, make_env
from sim.menagerie.env import MenagerieEnv
from sim.menagerie.models import VARIABLE, menagerie_folder
from sim.world import World

ARM = """<mujoco model="little arm">
  <compiler angle="radian"/>
  <option integrator="implicitfast"/>
  <worldbody>
    <body name="column" pos="0 0 0.3">
      <geom type="cylinder" size="0.05 0.3" rgba="0.3 0.3 0.4 1"/>
      <body name="upper" pos="0 0 0.3">
        <joint name="shoulder" axis="0 1 0" range="-2 2" damping="2"/>
        <geom type="capsule" fromto="0 0 0 0.4 0 0" size="0.03" rgba="0.8 0.4 0.1 1"/>
        <body name="fore" pos="0.4 0 0">
          <joint name="elbow" axis="0 1 0" range="-2 2" damping="1"/>
          <geom type="capsule" fromto="0 0 0 0.3 0 0" size="0.02" rgba="0.9 0.8 0.1 1"/>
          <camera name="hand" pos="0.1 0 0.1"/>
          <body name="left" pos="0.33 0.02 0">
            <joint name="left_finger" type="slide" axis="0 1 0" range="0 0.04" damping="5"/>
            <geom type="box" size="0.03 0.005 0.01" contype="0" conaffinity="0"/>
          </body>
          <body name="right" pos="0.33 -0.02 0">
            <joint name="right_finger" type="slide" axis="0 -1 0" range="0 0.04" damping="5"/>
            <geom type="box" size="0.03 0.005 0.01" contype="0" conaffinity="0"/>
          </body>
        </body>
      </body>
    </body>
  </worldbody>
  <tendon>
    <fixed name="grip"><joint joint="left_finger" coef="0.5"/><joint joint="right_finger" coef="0.5"/></fixed>
  </tendon>
  <actuator>
    <position name="a1" joint="shoulder" kp="200" kv="20" ctrlrange="-1.5 1.5"/>
    <position name="a2" joint="elbow" kp="100" kv="10" inheritrange="1"/>
    <position name="fingers" tendon="grip" kp="50" ctrlrange="0 0.04"/>
  </actuator>
  <keyframe>
    <key name="tucked" qpos="0 0 0 0" ctrl="0 0 0"/>
    <key name="home" qpos="-0.5 1 0.02 0.02" ctrl="-0.5 1 0.02"/>
  </keyframe>
</mujoco>
"""
ROLLER = """<mujoco model="roller">
  <worldbody>
    <body name="hull" pos="0 0 0.2">
      <freejoint name="base"/>
      <geom type="box" size="0.2 0.1 0.05" rgba="0.2 0.5 0.2 1"/>
      <body name="wheel" pos="0 0.12 0">
        <joint name="axle" axis="0 1 0" damping="0.1"/>
        <geom type="sphere" size="0.1" rgba="0.1 0.1 0.1 1"/>
      </body>
    </body>
  </worldbody>
  <actuator><motor joint="axle" ctrlrange="-2 2"/></actuator>
</mujoco>
"""
SCENE = """<mujoco model="scene">
  <include file="{robot}.xml"/>
  <visual><global azimuth="120" elevation="-20"/></visual>
  <worldbody>
    <light pos="0 0 1.5" dir="0 0 -1" directional="true"/>
    <geom name="floor" size="0 0 0.05" type="plane" rgba="0.4 0.5 0.6 1"/>
  </worldbody>
</mujoco>
"""


@pytest.fixture(autouse=True)
def menagerie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like Menagerie's."""
    folder = tmp_path / "mujoco_menagerie"
    for maker, robot, text in (("acme_arm", "arm", ARM), ("acme_roller", "roller", ROLLER)):
        (folder / maker).mkdir(parents=True)
        (folder / maker / f"{robot}.xml").write_text(text)
        (folder / maker / "scene.xml").write_text(SCENE.format(robot=robot))
    (folder / "acme_arm" / "scene_left.xml").write_text(SCENE.format(robot="arm"))
    (folder / "acme_parts").mkdir()
    monkeypatch.setenv(VARIABLE, str(folder))
    return folder


class TestArm(EnvConformance):
    camera = "whole"

    def make(self) -> Env:
        return make_env("menagerie/acme_arm", horizon=15)


class TestRoller(EnvConformance):
    """A free body and a motor: it is steppable, and has no pose to reach."""

    camera = "whole"

    def make(self) -> Env:
        return make_env("menagerie/acme_roller", horizon=15)


def test_models_are_listed_where_they_are(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    names = tuple(f"menagerie/{m}" for m in ("acme_arm", "acme_arm/scene_left", "acme_roller"))
    assert environments("menagerie") == names
    assert armchair.main(["sim", "list", "--only", "menagerie/*"]) == 0
    page = capsys.readouterr().out
    assert all(name in page for name in names)
    assert "acme arm, scene_left" in page
    contract = tmp_path / "contract.yaml"
    assert armchair.main(["sim", "show", names[0], "--contract", str(contract)]) == 0
    page = capsys.readouterr().out
    assert "whole, hand" in page
    assert "shoulder in [-1.5, 1.5]" in page
    assert "expert        scripted" in page
    assert load_contract(contract).actions["arm"].kind == "joint_position"
    assert horizon_of(names[0]) == 150


def test_where_there_is_none_the_message_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="did you mean 'acme_arm'"):
        make_env("menagerie/acme_amr")
    with pytest.raises(ConfigError, match="no model"):
        make_env("menagerie/../../etc")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=f"{VARIABLE}=.*nowhere: there is no such folder"):
        make_env("menagerie/acme_arm")
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(MachineError, match=r"clone https.*mujoco_menagerie and write"):
        make_env("menagerie/acme_arm")
    assert environments("menagerie") == ()
    place = tmp_path / "cache" / "robot_descriptions" / "mujoco_menagerie"
    place.mkdir(parents=True)
    assert menagerie_folder() == place


def test_the_contract_commands_servos_as_joints_and_holds_the_rest() -> None:
    contract = contract_of("menagerie/acme_arm", None)
    arm, gripper = contract.actions["arm"], contract.actions["gripper"]
    assert (arm.kind, arm.names, arm.measured_by) == ("joint_position", ("shoulder", "elbow"), "joints")
    assert (arm.lower, arm.upper, arm.max_velocity) == ((-1.5, -2.0), (1.5, 2.0), (0.75, 1.0))
    assert (gripper.kind, gripper.names, gripper.upper) == ("gripper", ("fingers",), (0.04,))
    assert contract_of("menagerie/acme_roller", None).actions["motors"].kind == "cartesian_delta"
    env = make_env("menagerie/acme_arm")
    world = World(contract, env)
    world.reset(0, 0)
    np.testing.assert_allclose(world.samples(frozenset(["joints"]))["joints"], [-0.5, 1.0])
    env.close()


def test_the_home_is_kept_by_the_action_that_keeps_it() -> None:
    env = MenagerieEnv("acme_arm")
    first = env.reset(seed=0, episode=0).observation["joints"]
    assert env.spec.rest_action is not None
    for _ in range(30):
        step = env.step(env.spec.rest_action)
    np.testing.assert_allclose(step.observation["joints"], first, atol=0.1)
    assert not step.success
    env.close()


def test_the_expert_reaches_goals_that_the_splits_do_not_share() -> None:
    goals = {}
    for split in ("train", "evaluation"):
        env = MenagerieEnv("acme_arm", split=split, horizon=40)  # type: ignore[arg-type]
        behaviour = acts(env.spec.name, "expert", 0, 1)
        step = env.reset(seed=0, episode=1)
        goals[split] = step.observation["state"][-3:].tolist()
        rng, reward = behaviour.rng(), step.reward
        for tick in range(40):
            spec = env.spec
            state = step.observation["state"]
            step = env.step(behaviour.act(state, rng, tick, spec.action_lower, spec.action_upper))
        assert step.success
        assert -0.05 < step.reward <= 0.0
        assert reward == 0.0
        env.close()
    assert goals["train"] != goals["evaluation"]


def test_the_camera_sees_the_whole_robot() -> None:
    env = MenagerieEnv("acme_arm")
    env.reset(seed=0, episode=0)
    picture = env.render("whole", 96, 96).astype(int)
    robot = (picture[..., 0] > picture[..., 2] + 30).nonzero()  # its links are orange and yellow
    assert len(robot[0]) > 25
    for axis in robot:
        assert axis.min() >= 2
        assert axis.max() <= 93
    assert np.ptp(robot[0]) > 8
    env.close()


def test_physics_that_diverges_is_told_and_not_taken_for_a_step(
    menagerie: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stiff = ARM.replace('kp="200" kv="20"', 'kp="1e8" kv="1e5"').replace("implicitfast", "Euler")
    (menagerie / "acme_arm" / "arm.xml").write_text(stiff)
    monkeypatch.chdir(menagerie)  # MuJoCo writes a log file where it runs
    env = MenagerieEnv("acme_arm")
    env.reset(seed=0, episode=0)
    with pytest.raises(MachineError, match="the physics diverged at"):
        for _ in range(30):
            env.step(env.spec.action_upper)
    with pytest.raises(RuntimeError, match="reset"):
        env.step(env.spec.action_upper)
    env.reset(seed=0, episode=0)
    env.close()


def test_an_actuator_without_a_range_is_named(menagerie: Path) -> None:
    (menagerie / "acme_roller" / "roller.xml").write_text(ROLLER.replace(' ctrlrange="-2 2"', ""))
    with pytest.raises(ConfigError, match="'actuator_0' has no range"):
        make_env("menagerie/acme_roller")
    (menagerie / "acme_roller" / "roller.xml").write_text("<mujoco><worldbdy/></mujoco>")
    with pytest.raises(ConfigError, match=r"does not read .*scene.xml"):
        make_env("menagerie/acme_roller")
