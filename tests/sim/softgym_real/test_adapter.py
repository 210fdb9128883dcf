"""What the adapter of real SoftGym says where something is missing or breaks, and what only it has."""

from __future__ import annotations

import dataclasses
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import armchair
from episodes.errors import ConfigError, MachineError
from episodes.reader import Episode, stream_hash
from sim.contracts import made_for
from sim.make import horizon_of, make_env
from sim.softgym.env import SoftGymEnv
from sim.softgym_real.env import RealSoftGymEnv
from sim.softgym_real.install import TASKS, SoftGymInstall, found, note
from sim.world import World

DOUBLE = Path(__file__).resolve().parent / "double"


def export(double: SoftGymInstall, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name the double in the environment variables."""
    monkeypatch.setenv("ARMCHAIR_SOFTGYM_PYTHON", double.python)
    monkeypatch.setenv("ARMCHAIR_SOFTGYM_PYTHONPATH", str(DOUBLE))
    monkeypatch.setenv("ARMCHAIR_SOFTGYM_STATES", str(double.states))
    monkeypatch.setenv("ARMCHAIR_SOFTGYM_VARIATIONS", "5")
    monkeypatch.setenv("ARMCHAIR_SOFTGYM_CUDA", "0")
    monkeypatch.setenv("PYFLEXROOT", "/PyFlex")


def folder(tmp_path: Path, **modules: str) -> str:
    """A folder of modules with these texts."""
    for name, text in modules.items():
        (tmp_path / f"{name}.py").write_text(text)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("modules", "root", "told"),
    [
        ({}, "/PyFlex", ["PyFleX cannot be imported", "bindings/build on PYTHONPATH"]),
        pytest.param(
            {"pyflex": "import cudart_of_9_2"},
            "/PyFlex",
            ["No module named 'cudart_of_9_2'"],
            marks=pytest.mark.long,
        ),
        (
            {"pyflex": "def pick(): 0"},
            "/PyFlex",
            ["pyflex.py is not FleX", "seismology"],
        ),
        pytest.param(
            {"pyflex": "def set_scene(): 0"}, None, ["PYFLEXROOT is not set"], marks=pytest.mark.long
        ),
        ({"pyflex": "def set_scene(): 0"}, "/PyFlex", ["SoftGym cannot be imported", "clone of"]),
    ],
)
def test_what_is_missing_is_named(
    modules: dict[str, str], root: str | None, told: list[str], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.delenv("PYFLEXROOT", raising=False)
    where = SoftGymInstall(sys.executable, pythonpath=folder(tmp_path, **modules), pyflexroot=root)
    with pytest.raises(MachineError) as raised:
        RealSoftGymEnv("RopeFlatten", install=where)
    assert "softgym/RopeFlatten: " in str(raised.value)
    assert all(part in str(raised.value) for part in told), raised.value


def test_a_machine_without_a_gpu_is_told_so_before_flex_ends_the_process(
    double: SoftGymInstall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(MachineError, match="FleX runs on CUDA, which does not start"):
        RealSoftGymEnv("RopeFlatten", install=dataclasses.replace(double, check_cuda=True))


def test_a_wrong_setting_is_named_before_or_by_softgym(double: SoftGymInstall) -> None:
    with pytest.raises(ConfigError, match="no task 'RopeFlaten': write one of PassWater, RopeFlatten"):
        RealSoftGymEnv("RopeFlaten", install=double)
    for wrong in ({"horizon": 0}, {"split": "test"}, {"observation": "rgb"}):
        with pytest.raises(ConfigError, match=str(next(iter(wrong.values())))):
            RealSoftGymEnv("RopeFlatten", install=double, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="cannot hide the pickers"):
        RealSoftGymEnv("RopeFlatten", install=double, pickers=False)


@pytest.mark.long
def test_what_softgyms_class_refuses_is_its_traceback(double: SoftGymInstall) -> None:
    with pytest.raises(MachineError, match="AssertionError"):
        RealSoftGymEnv("RopeFlatten", install=double, settings={"action_mode": "teleport"})


@pytest.mark.long
def test_softgyms_own_states_are_neither_made_nor_written_over_unasked(
    double: SoftGymInstall, tmp_path: Path
) -> None:
    own = dataclasses.replace(double, states=tmp_path, variations=None)
    with pytest.raises(MachineError, match=r"1000 initial states .* .*init_states.pkl is missing"):
        RealSoftGymEnv("RopeFlatten", install=own)
    file = tmp_path / "rope.pkl"
    file.write_bytes(pickle.dumps(([1, 2], [3, 4])))
    with pytest.raises(MachineError, match=r"rope.pkl holds 2\. .*ARMCHAIR_SOFTGYM_VARIATIONS=20"):
        RealSoftGymEnv("RopeFlatten", install=dataclasses.replace(own, states=file))
    assert file.read_bytes() == pickle.dumps(([1, 2], [3, 4]))
    assert sorted(tmp_path.iterdir()) == [file]
    assert double.states is not None
    made = RealSoftGymEnv("PassWater", install=double)
    made.close()
    given = dataclasses.replace(
        double, states=double.states / "pass_water_init_states_5_at_720.pkl", variations=None
    )
    again = RealSoftGymEnv("PassWater", install=given, settings={"num_variations": 5})
    assert again.spec.source.endswith("5 initial states")
    again.close()
    rope = RealSoftGymEnv("RopeFlatten", install=double, camera_size=64)
    rope.close()
    states = double.states / "rope_flatten_init_states_5_at_64.pkl"
    with pytest.raises(ConfigError, match=r"camera_size is 720, .* of 64: leave it at 64"):
        RealSoftGymEnv(
            "RopeFlatten",
            install=dataclasses.replace(double, states=states, variations=None),
            settings={"num_variations": 5},
        )


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("die", ["was ended by SIGABRT, asked to 'step'", "an illegal memory access"]),
        pytest.param(
            "raise",
            ["ended with status 1, asked to 'step'", "RuntimeError: the solver is out"],
            marks=pytest.mark.long,
        ),
        pytest.param("hang", ["gave no answer for 0.5 s, asked to 'step'"], marks=pytest.mark.long),
        pytest.param("nan", ["FleX diverged in step 1", "not finite"], marks=pytest.mark.long),
    ],
)
def test_a_step_that_goes_wrong_ends_in_a_message(
    fault: str, told: list[str], double: SoftGymInstall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOUBLE_FAULT", fault)
    env = RealSoftGymEnv("RopeFlatten", install=dataclasses.replace(double, answer_s=0.5), camera_size=32)
    env.reset(seed=0, episode=0)
    with pytest.raises(MachineError) as raised:
        env.step(np.zeros(8))
    assert all(part in str(raised.value) for part in told), raised.value
    env.close()


def test_what_softgym_observes_as_a_picture_is_a_camera(double: SoftGymInstall) -> None:
    env = RealSoftGymEnv("PassWater", install=double, observation="cam_rgb", camera_size=48)
    assert env.spec.observation_names == {}
    assert env.spec.cameras == ("default_camera", "left_side", "observation")
    assert env.reset(seed=0, episode=0).observation == {}
    env.step(np.ones(1))
    seen, drawn = (env.render(name, 48, 48) for name in ("observation", "default_camera"))
    np.testing.assert_array_equal(seen, drawn)
    assert not np.array_equal(env.render("left_side", 48, 48), drawn)
    np.testing.assert_array_equal(env.render("default_camera", 48, 48), drawn)
    env.close()


@pytest.mark.long
def test_pickers_can_be_hidden_where_the_class_can(double: SoftGymInstall) -> None:
    env = RealSoftGymEnv("RopeFlattenEasy", install=double, pickers=False, camera_size=96)
    env.reset(seed=0, episode=0)
    red = (
        env.render("default_camera", 96, 96)[..., 0].astype(int)
        - env.render("default_camera", 96, 96)[..., 2]
    )
    assert red.max() < 150
    env.close()


def test_a_contract_and_a_policy_of_the_equivalent_fit_real_softgym(
    double: SoftGymInstall, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(double, monkeypatch)
    contract = made_for(SoftGymEnv("RopeFlatten").spec, ("default_camera",), (32, 32))
    world = World(contract, make_env("softgym/RopeFlatten"))
    world.reset(0, 0)
    world.apply(np.zeros(8))
    samples = world.samples()
    assert samples["state"].shape == (36,)
    assert samples["default_camera"].shape == (32, 32, 3)
    world.close()


@pytest.mark.long
def test_recordings_do_not_depend_on_the_number_of_workers(
    double: SoftGymInstall, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The equivalents' expert acts; what it reaches on FleX is not covered."""
    export(double, monkeypatch)
    told = []
    for workers in ("1", "2"):
        data = tmp_path / workers
        words = ["collect", str(data), "--env", "softgym/RopeFlatten", "--episodes", "3", "--horizon", "6"]
        assert armchair.main([*words, "--workers", workers]) == 0
        hashes = []
        for path in sorted((data / "episodes").glob("*.h5")):
            with Episode.open(path) as episode:
                hashes.append(stream_hash(episode, ["state", "default_camera"]))
        told.append(sorted(hashes))
    assert len(set(told[0])) == 3
    assert told[0] == told[1]


def test_sim_list_says_where_softgym_is_or_what_to_export(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ARMCHAIR_SOFTGYM_PYTHON", raising=False)
    assert armchair.main(["sim", "list"]) == 0
    page = " ".join(capsys.readouterr().out.split())
    assert "softgym: real SoftGym on FleX" in page
    assert "not installed: export ARMCHAIR_SOFTGYM_PYTHON=" in page
    with pytest.raises(MachineError, match=r"export ARMCHAIR_SOFTGYM_PYTHON=.*softgym-equivalent/TASK"):
        make_env("softgym/RopeFlatten")
    monkeypatch.setenv("ARMCHAIR_SOFTGYM_PYTHON", sys.executable)
    assert armchair.main(["sim", "list", "--only", "softgym/*"]) == 0
    page = capsys.readouterr().out
    assert all(f"softgym/{task}" in page for task in TASKS)
    assert note({"ARMCHAIR_SOFTGYM_PYTHON": "/nowhere"}).endswith("/nowhere is no program")


def test_the_installation_is_read_from_variables() -> None:
    where = found({"ARMCHAIR_SOFTGYM_PYTHON": "p", "ARMCHAIR_SOFTGYM_VARIATIONS": "3"})
    assert (where.python, where.variations, where.states, where.check_cuda) == ("p", 3, None, True)
    with pytest.raises(ConfigError, match="ARMCHAIR_SOFTGYM_VARIATIONS='many'"):
        found({"ARMCHAIR_SOFTGYM_PYTHON": "p", "ARMCHAIR_SOFTGYM_VARIATIONS": "many"})
    with pytest.raises(ConfigError, match="leave one of them out"):
        SoftGymInstall("p", states=Path("a.pkl"), variations=3)
    assert where.keep(Path("c")) != dataclasses.replace(where, python="q").keep(Path("c"))
    assert horizon_of("softgym/PassWater") == 75
    with pytest.raises(ConfigError, match="--horizon"):
        horizon_of("softgym/Own")
