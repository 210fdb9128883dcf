"""Which library draws is chosen, said, and never changes the geometry of a picture."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from episodes.errors import ConfigError, MachineError
from sim.gl import Choice, Probe, decide, load_mujoco
from sim.raycast import RayCaster
from sim.render import Renderer

ROOT = Path(__file__).parents[2]
SCENE = """
<mujoco>
  <asset>
    <texture name="half" type="2d" builtin="flat" rgb1="0 0.5 0" rgb2="0 0.5 0" width="8" height="8"/>
    <material name="green" texture="half"/>
  </asset>
  <worldbody>
    <light pos="0 0 3" dir="0 0 -1"/>
    <camera name="front" pos="0 -2 0" xyaxes="1 0 0 0 0 1" fovy="45"/>
    <geom name="left" type="sphere" size="0.2" pos="-0.4 0 0" rgba="1 0 0 1"/>
    <geom name="right" type="box" size="0.1 0.1 0.3" pos="0.4 0 0.2" material="green"/>
    <geom name="collision" type="sphere" size="0.5" group="3"/>
    <site name="goal" pos="0 -0.3 -0.5" size="0.05" rgba="0 0 1 1"/>
  </worldbody>
</mujoco>
"""


def scene() -> tuple[Any, Any]:
    mujoco = load_mujoco()
    model = mujoco.MjModel.from_xml_string(SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def probes(egl: str | None, osmesa: str | None) -> Mapping[str, Probe]:
    return {"egl": lambda: egl, "osmesa": lambda: osmesa}


def test_the_first_library_that_works_is_taken() -> None:
    assert decide("auto", "", probes(None, None)).name == "egl"
    assert decide("auto", "", probes("gone", None)).name == "osmesa"


def test_without_any_library_pictures_are_ray_cast_and_the_reason_is_said() -> None:
    choice = decide("auto", "", probes("libEGL is not installed", "libOSMesa is not installed"))
    assert choice.name == "raycast"
    assert "libEGL is not installed" in choice.reason
    assert "libOSMesa is not installed" in choice.reason
    assert not choice.demanded


@pytest.mark.parametrize(("wanted", "variable"), [("egl", ""), ("auto", "egl"), ("egl", "osmesa")])
def test_a_demanded_library_that_is_missing_is_an_error_that_names_the_packages(
    wanted: str, variable: str
) -> None:
    with pytest.raises(MachineError, match=r"libEGL is not installed.*apt-get install libegl1"):
        decide(wanted, variable, probes("libEGL is not installed", None))


def test_mujoco_gl_set_by_a_person_is_a_demand() -> None:
    assert decide("auto", "osmesa", probes(None, None)) == Choice("osmesa", "asked for", demanded=True)
    assert decide("auto", "disable", probes(None, None)).name == "raycast"
    assert decide("raycast", "egl", probes("gone", "gone")).name == "raycast"


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'egl'"):
        decide("elg", "")
    with pytest.raises(ConfigError, match="MUJOCO_GL='vulkan'"):
        decide("auto", "vulkan")


def test_after_the_import_of_mujoco_its_library_stays() -> None:
    assert decide("auto", "", probes(None, None), bound="egl").name == "egl"
    assert decide("auto", "", probes(None, None), bound="none").name == "raycast"
    with pytest.raises(MachineError, match="MUJOCO_GL=osmesa"):
        decide("osmesa", "", probes(None, None), bound="egl")


def test_ray_cast_depth_and_segmentation_are_exact() -> None:
    model, data = scene()
    height, width = 61, 101
    image = RayCaster(model).cast(data, 0, height, width)
    top = np.tan(np.radians(45) / 2)
    y = top * (1 - 2 * (np.arange(height) + 0.5) / height)
    x = top * width / height * (2 * (np.arange(width) + 0.5) / width - 1)
    rays = np.stack(np.broadcast_arrays(x[None, :], 1.0, y[:, None]), axis=-1)
    rays = rays / np.linalg.norm(rays, axis=2, keepdims=True)
    centre = np.array([-0.4, 2.0, 0.0])
    along = rays @ centre
    inside = 0.2**2 - (centre @ centre - along**2)
    sphere = inside > 1e-4
    np.testing.assert_allclose(image.depth[sphere], (along - np.sqrt(np.abs(inside)))[sphere], atol=1e-6)
    assert set(image.geom[sphere].tolist()) == {model.geom("left").id}
    assert model.geom("collision").id not in image.geom
    assert np.all(np.isinf(image.depth[image.geom < 0]))


def test_ray_cast_colours_come_from_geom_texture_and_site() -> None:
    model, data = scene()
    colour = RayCaster(model).cast(data, 0, 90, 120).colour.astype(int)
    geom = RayCaster(model).cast(data, 0, 90, 120).geom
    left, right = colour[geom == model.geom("left").id], colour[geom == model.geom("right").id]
    assert left[:, 0].max() > 230
    assert left[:, 1:].max() == 0
    assert 100 < right[:, 1].max() <= 128
    assert right[:, [0, 2]].max() == 0
    blue = (colour[..., 2] > 200) & (colour[..., :2].max(axis=2) == 0)
    assert 4 < blue.sum() < 60
    assert np.argwhere(blue).mean(axis=0) == pytest.approx(
        [45 + 0.5 / 1.7 * 45 / np.tan(np.radians(22.5)), 59.5], abs=1
    )


def test_ray_cast_and_gl_show_the_same_things_at_the_same_place() -> None:
    model, data = scene()
    with Renderer(model) as gl:
        if gl.backend == "raycast":
            pytest.skip(f"no GL library here: {gl.choice.reason}")
        drawn = gl.render(data, "front", 84, 84).astype(int)
    with Renderer(model, "raycast") as rays:
        cast = rays.render(data, "front", 84, 84).astype(int)
        assert rays.backend == "raycast"
    for channel in (0, 1):
        others = [c for c in range(3) if c != channel]
        a = drawn[..., channel] > 2 * drawn[..., others].max(axis=2) + 20
        b = cast[..., channel] > 2 * cast[..., others].max(axis=2) + 20
        assert (a & b).sum() / (a | b).sum() > 0.9


def test_ray_casting_copes_with_the_signature_of_mujoco_4(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = scene()
    expected = RayCaster(model).cast(data, 0, 30, 40)
    caster = RayCaster(model)
    mujoco = load_mujoco()

    def multi_ray(*arguments: Any) -> None:
        """MuJoCo 4: an optional output `normal` stands before the number of rays."""
        if len(arguments) != 12:
            raise TypeError("mj_multiRay(): incompatible function arguments")
        mujoco.mj_multiRay(*arguments[:9], *arguments[10:])

    four = SimpleNamespace(mj_multiRay=multi_ray, mjMAXVAL=mujoco.mjMAXVAL)
    monkeypatch.setattr(caster, "_mujoco", four)
    for _ in range(2):
        np.testing.assert_array_equal(caster.cast(data, 0, 30, 40).depth, expected.depth)


def test_contexts_are_kept_per_size_bounded_and_freed() -> None:
    model, data = scene()
    renderer = Renderer(model)
    if renderer.backend == "raycast":
        pytest.skip(f"no GL library here: {renderer.choice.reason}")
    for size in (8, 16, 8, 24, 32, 40):
        assert renderer.render(data, "front", size, size).shape == (size, size, 3)
        assert renderer.open_contexts <= 3
    renderer.close()
    assert renderer.open_contexts == 0
    with pytest.raises(RuntimeError, match="closed"):
        renderer.render(data, "front", 8, 8)


def test_a_driver_that_makes_no_context_is_passed_over_unless_it_was_demanded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(self: Renderer, height: int, width: int) -> None:
        raise RuntimeError("Cannot create an EGL context.")

    model, data = scene()
    monkeypatch.setattr(Renderer, "_new_context", fails)
    with Renderer(model) as renderer:
        monkeypatch.setattr(renderer, "_choice", Choice("egl", "it works"))
        assert renderer.render(data, "front", 16, 16).std() > 1
        assert renderer.backend == "raycast"
        assert "Cannot create an EGL context" in renderer.choice.reason
    with Renderer(model) as renderer:
        monkeypatch.setattr(renderer, "_choice", Choice("egl", "asked for", demanded=True))
        with pytest.raises(MachineError, match="makes no context"):
            renderer.render(data, "front", 16, 16)


def test_many_renderers_come_and_go_without_piling_up_contexts() -> None:
    model, data = scene()
    before = _memory_mib()
    for i in range(20):
        renderer = Renderer(model)
        renderer.render(data, "front", 32, 32)
        if i % 2:
            renderer.close()
        del renderer
    gc.collect()
    assert _memory_mib() - before < 150


def _memory_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_frames_larger_than_the_models_buffer_are_drawn() -> None:
    model, data = scene()
    with Renderer(model) as renderer:
        assert renderer.render(data, "front", 500, 700).shape == (500, 700, 3)


FORGETFUL = """
import mujoco_first
from sim.render import Renderer, load_mujoco
mujoco = load_mujoco()
model = mujoco.MjModel.from_xml_string('''{scene}''')
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = Renderer(model)
frame = renderer.render(data, 'front', 64, 64)
print(renderer.backend, frame.std() > 1, renderer.choice.reason)
""".replace("import mujoco_first\n", "").format(scene=SCENE)


def _python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {
        k: v
        for k, v in os.environ.items()
        if k not in ("MUJOCO_GL", "ARMCHAIR_CHOSE_GL", "PYOPENGL_PLATFORM")
    }
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_renderer_that_was_never_closed_leaves_no_traceback_at_exit() -> None:
    done = _python(FORGETFUL)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.split()[1] == "True"


def test_a_process_without_gl_draws_by_ray_casting() -> None:
    """PYOPENGL_PLATFORM names a platform that neither EGL nor OSMesa can use: for mujoco, no GL is there."""
    done = _python(FORGETFUL, PYOPENGL_PLATFORM="glx")
    assert done.stdout.startswith("raycast True"), done.stdout + done.stderr
    assert "PYOPENGL_PLATFORM" in done.stdout
    assert done.stderr == ""


def test_a_process_that_demands_a_missing_gl_fails_with_one_clear_error() -> None:
    done = _python(FORGETFUL, PYOPENGL_PLATFORM="glx", MUJOCO_GL="egl")
    assert done.returncode != 0
    assert "MachineError: renderer egl was asked for and does not work" in done.stderr
    assert "apt-get install libegl1" in done.stderr


def test_a_choice_that_was_made_for_us_binds_no_child() -> None:
    """A worker inherits MUJOCO_GL from a parent that chose it; that is not a person's demand."""
    done = _python(FORGETFUL, PYOPENGL_PLATFORM="glx", MUJOCO_GL="egl", ARMCHAIR_CHOSE_GL="egl")
    assert done.stdout.startswith("raycast True"), done.stdout + done.stderr


def test_a_process_that_rendered_can_train() -> None:
    """Mesa's LLVM and the one inside triton do not mix when Mesa's is loaded first."""
    script = (
        "from sim.make import make_env\n"
        "env = make_env('metaworld/drawer-open-v3', horizon=2)\n"
        "env.reset(seed=0, episode=0)\n"
        "env.render('corner2', 84, 84)\n"
        "import torch\n"
        "torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])\n"
        "print('trained')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("trained\n")
