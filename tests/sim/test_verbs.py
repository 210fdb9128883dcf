"""`armchair sim`: the list, an environment's page, pictures, and contracts made for environments."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import armchair
from episodes.contract import load_contract
from episodes.errors import ConfigError, MachineError
from sim.catalogue import environments
from sim.contracts import contract_of, made_for
from sim.listing import chosen
from sim.make import make_env
from sim.metaworld_env import task_names
from sim.picture import RenderConfig, main, who_acts
from sim.softgym.registry import TASKS
from sim.window import need_display, ppm, show
from sim.world import World


def test_the_catalogue_lists_every_environment_there_is() -> None:
    assert sorted(environments("metaworld")) == sorted(task_names())
    assert sorted(environments("softgym-equivalent")) == sorted(f"softgym-equivalent/{t}" for t in TASKS)
    with pytest.raises(ConfigError, match="metaworld, arm6"):
        environments("sawyer")


def test_list_prints_a_line_each_and_only_what_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert armchair.main(["sim", "list"]) == 0
    page = capsys.readouterr().out
    assert all(name in page for name in environments())
    assert armchair.main(["sim", "list", "--only", "*drawer*"]) == 0
    page = capsys.readouterr().out
    assert "metaworld/drawer-open-v3" in page
    assert "pull a drawer open" in page
    assert "reach" not in page
    assert armchair.main(["sim", "list", "--only", "drawr"]) == 2


def test_list_draws_a_picture_of_each(tmp_path: Path) -> None:
    words = ["sim", "list", "--only", "arm6/reach", "--pictures", str(tmp_path), "--size", "48"]
    words += ["--sheet", str(tmp_path / "sheet.jpg")]
    assert armchair.main([*words, "--quality", "fast", "--workers", "1"]) == 0
    picture = cv2.imread(str(tmp_path / "arm6-reach.png"))
    assert picture.shape == (48, 48, 3)
    assert picture.std() > 10
    page = cv2.imread(str(tmp_path / "sheet.jpg"))
    assert page.shape == (48 + 16 + 8, 48 + 8, 3)
    assert np.abs(page[4:52, 4:52].astype(int) - picture).mean() < 10, "the picture, as a JPEG has it"
    assert page[53:].min() < 120, "its name stands below"
    assert armchair.main([*words[:4], "--sheet", str(tmp_path / "sheet.gif")]) == 2


def test_a_pattern_without_wildcards_is_a_name() -> None:
    assert chosen("arm6/reach") == ("arm6/reach",)


def test_sim_alone_explains_itself_and_knows_the_nearest_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert armchair.main(["sim"]) == 0
    assert "render" in capsys.readouterr().out
    assert armchair.main(["sim", "rendr"]) == 2
    assert "did you mean 'render'?" in capsys.readouterr().err


def test_show_says_spaces_names_cameras_horizon_and_source(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "arm.yaml"
    assert armchair.main(["sim", "show", "arm6/reach", "--contract", str(file)]) == 0
    page = capsys.readouterr().out
    for word in ("mujoco", "50 ms (20 Hz)", "150 steps", "front, side, wrist", "joint1 in [-2.85, 2.85]"):
        assert word in page
    assert "goal_x" in page
    assert load_contract(file).simulation is not None


def test_a_window_without_a_display_is_refused_with_what_to_do_instead(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a window shows with a display is not covered here."""
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert armchair.main(["sim", "show", "arm6/reach", "--window"]) == 2
    assert "--film" in capsys.readouterr().err
    with pytest.raises(MachineError, match="--film"):
        show(iter([np.zeros((4, 4, 3), dtype=np.uint8)]), 0.1, "title")
    need_display({"DISPLAY": ":0"})


def test_a_frame_reaches_the_window_as_a_binary_ppm() -> None:
    frame = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert ppm(frame) == b"P6 4 2 255\n" + bytes(range(24))


def test_an_environment_is_drawn_by_its_expert_or_by_chance(tmp_path: Path) -> None:
    assert who_acts("metaworld/reach-v3") == "expert"
    assert who_acts("softgym-equivalent/ClothFoldPPP") == "random"
    out = tmp_path / "film.mp4"
    assert main(RenderConfig("arm6/reach", out=out, height=32, steps=4)) == 0
    assert cv2.VideoCapture(str(out)).get(cv2.CAP_PROP_FRAME_COUNT) == 5
    assert main(RenderConfig("arm6/reach", out=tmp_path / "a.png", height=32, who="random", at=3)) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"out": "a.gif"}, "a.gif"),
        ({}, "--out FILE.png"),
        ({"out": "a.mp4", "at": 3}, "--at are for a PNG"),
        ({"out": "a.png", "at": 3, "strip": 2}, "one of the two"),
        ({"out": "a.png", "height": 0}, "--height 0"),
        ({"out": "a.png", "camera": "frnt"}, "did you mean 'front'?"),
        ({"into": "data"}, "takes a data set"),
    ],
)
def test_a_mistake_in_a_picture_is_named(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    paths = {k: tmp_path / str(v) for k, v in changes.items() if k in ("out", "into")}
    with pytest.raises(ConfigError) as raised:
        main(RenderConfig("arm6/reach", **{**changes, **paths}))  # type: ignore[arg-type]
    assert message in str(raised.value)


def test_a_contract_is_made_for_an_environment_that_has_none() -> None:
    contract = contract_of("softgym-equivalent/RopeFlatten", None, (32, 32))
    assert contract.period_ns == 80_000_000
    assert contract.reference == "default_camera"
    assert {c.kind for c in contract.actions.values()} == {"cartesian_delta", "gripper"}
    env = make_env("softgym-equivalent/RopeFlatten")
    world = World(contract, env)
    world.reset(0, 0)
    assert world.samples()["default_camera"].shape == (32, 32, 3)
    action = np.arange(8.0) / 10.0
    np.testing.assert_array_equal(world.in_env_order(world.in_contract_order(action)), action)
    assert made_for(env.spec, (), (1, 1)).reference == "state"
    world.close()
    assert contract_of("arm6/reach", None).robot == "arm6_sim"
    assert contract_of("", None).robot == "sawyer_sim"
