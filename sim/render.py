"""Frames of a MuJoCo scene, as fast as software GL allows, the right way up.

MuJoCo's defaults (a 4096² shadow map for each light, four samples a pixel) cost fifteen times the drawing
itself when Mesa draws on the CPU. `fast` switches shadows, reflections and multi-sampling off before the
context is made.
"""

from __future__ import annotations

import atexit
import sys
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from episodes.errors import ConfigError, MachineError, did_you_mean
from sim.appearance import Appearance, worn
from sim.crop import Crop, cropped
from sim.gl import Choice, RendererName, choose_gl, load_mujoco
from sim.raycast import RayCaster

__all__ = ["Choice", "Quality", "Renderer", "RendererName", "choose_gl", "load_mujoco"]

Quality = Literal["fast", "default"]

_MAX_SIZES = 3
"""Each frame size keeps a GL context with its own copy of the meshes; the least recently used one goes."""


class Renderer:
    """Draws frames of one model from its named cameras.

    GL contexts belong to the thread that made them: use a renderer from one thread. Close it (or use it as a
    context manager); one that was forgotten is closed before the interpreter shuts down, since closing later
    makes EGL print tracebacks.

    Args:
        model: an MjModel. `fast` changes its `vis.quality`, and both change its off-screen buffer size.
        wanted: which library; `auto` falls back to ray casting when the context cannot be made.
        quality: `fast`, or `default` for MuJoCo's own shadows, reflections and multi-sampling.
        crops: cameras that show a part of what another one shows, by name.

    Raises:
        MachineError: the demanded library does not work.
    """

    def __init__(
        self,
        model: Any,
        wanted: RendererName = "auto",
        quality: Quality = "fast",
        crops: Mapping[str, Crop] | None = None,
    ) -> None:
        self._mujoco = load_mujoco(wanted)
        self._choice = choose_gl(wanted)
        self._model = model
        self._quality = quality
        self._crops = dict(crops or {})
        # An infinite plane is laid out around the camera of the update before: with one alone a picture would
        # depend on the one before it.
        planes = model.geom_type == self._mujoco.mjtGeom.mjGEOM_PLANE
        self._passes = 2 if (model.geom_size[planes, :2] <= 0.0).any() else 1
        self._contexts: OrderedDict[tuple[int, int], Any] = OrderedDict()
        self._caster: RayCaster | None = None
        self._closed = False
        self.appearance: Appearance | None = None
        """How the scene looks other than modelled; may be replaced between two frames."""
        self._shown: Appearance | None = None
        self._textured: dict[tuple[int, int], Appearance] = {}
        self._finalizer = weakref.finalize(self, _close_contexts, self._contexts)
        self._finalizer.atexit = False  # _close_all does it: finalizers would run after EGL was terminated

    @property
    def choice(self) -> Choice:
        """What draws, and why; may change to ray casting at the first frame, when a context cannot be
        made."""
        return self._choice

    @property
    def backend(self) -> str:
        """egl, osmesa, glfw, native or raycast."""
        return self._choice.name

    @property
    def open_contexts(self) -> int:
        """How many GL contexts this renderer holds."""
        return len(self._contexts)

    def render(self, data: Any, camera: str, height: int, width: int) -> NDArray[np.uint8]:
        """Draw one frame.

        Args:
            data: an MjData of the model with its positions computed (mj_forward or a step).
            camera: name of one of the model's cameras, or of a crop.
            height: rows in pixels.
            width: columns in pixels.

        Returns:
            (height, width, 3) uint8 RGB, row 0 on top.

        Raises:
            ConfigError: no such camera, or a size below 1.
            MachineError: the demanded library cannot make a context.
        """
        if self._closed:
            raise RuntimeError("this renderer is closed: make a new one")
        crop = self._crops.get(camera)
        number = self._camera(camera if crop is None else crop.camera)
        if height < 1 or width < 1:
            raise ConfigError(
                f"a frame of {height}x{width} pixels cannot be drawn: both sides are 1 or more."
            )
        if self.appearance is None and self._shown is None:
            return self._draw(data, number, crop, height, width)
        if self.appearance is not self._shown:
            # The ray caster keeps the colours that it was made with.
            self._caster, self._shown = None, self.appearance
        if self.appearance is None:
            return self._draw(data, number, crop, height, width)
        with worn(self._mujoco, self._model, data, self.appearance):
            return self._draw(data, number, crop, height, width)

    def _draw(self, data: Any, number: int, crop: Crop | None, height: int, width: int) -> NDArray[np.uint8]:
        # Inside what the scene wears: the crop is one of the field of view that the camera has just then.
        with cropped(self._model, number, crop, height, width):
            return self._drawn(data, number, height, width)

    def _drawn(self, data: Any, number: int, height: int, width: int) -> NDArray[np.uint8]:
        context = None if self.backend == "raycast" else self._context(height, width)
        if context is None:
            if self._caster is None:
                self._caster = RayCaster(self._model)
            return self._caster.cast(data, number, height, width).colour
        self._upload_textures(context, (height, width))
        for _ in range(self._passes):
            context.update_scene(data, camera=number)
        frame: NDArray[np.uint8] = context.render()
        return frame

    def _upload_textures(self, context: Any, size: tuple[int, int]) -> None:
        """Give a context the textures of the present appearance, once."""
        appearance, has = self.appearance, self._textured.get(size)
        if appearance is has:
            return
        pixels = None if appearance is None else appearance.textures(self._model)
        if pixels is None and has is None:
            return
        own = np.array(self._model.tex_data)
        if pixels is not None:
            self._model.tex_data[:] = pixels
        if context._gl_context is not None:
            context._gl_context.make_current()
        for texture in range(self._model.ntex):
            self._mujoco.mjr_uploadTexture(self._model, context._mjr_context, texture)
        self._model.tex_data[:] = own
        self._textured.pop(size, None)
        if appearance is not None:
            self._textured[size] = appearance

    def close(self) -> None:
        """Free the GL contexts. May be called twice."""
        self._closed = True
        self._finalizer()

    def __enter__(self) -> Renderer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _camera(self, name: str) -> int:
        number = int(self._mujoco.mj_name2id(self._model, self._mujoco.mjtObj.mjOBJ_CAMERA, name))
        if number < 0:
            names = [*(self._model.camera(i).name for i in range(self._model.ncam)), *self._crops]
            raise ConfigError(f"the scene has no camera {name!r}: {did_you_mean(name, names)}")
        return number

    def _context(self, height: int, width: int) -> Any:
        size = (height, width)
        if size in self._contexts:
            self._contexts.move_to_end(size)
            return self._contexts[size]
        while len(self._contexts) >= _MAX_SIZES:
            old, gone = self._contexts.popitem(last=False)
            gone.close()
            self._textured.pop(old, None)
        try:
            context = self._new_context(height, width)
        except self._context_errors() as error:
            if self._choice.demanded:
                raise MachineError(
                    f"renderer {self.backend} was asked for, but makes no context: {error}. Check the "
                    "driver, or unset MUJOCO_GL and use --renderer auto, which falls back to ray casting."
                ) from error
            self._choice = Choice(
                "raycast", f"{self.backend} makes no context ({error}); pictures are ray-cast"
            )
            return None
        self._contexts[size] = context
        return context

    def _new_context(self, height: int, width: int) -> Any:
        vis = self._model.vis
        vis.global_.offheight = max(int(vis.global_.offheight), height)
        vis.global_.offwidth = max(int(vis.global_.offwidth), width)
        if self._quality == "fast":
            vis.quality.shadowsize = 0
            vis.quality.offsamples = 0
        context = self._mujoco.Renderer(self._model, height, width)
        _close_at_exit(self._contexts)
        if self._quality == "fast":
            flags = self._mujoco.mjtRndFlag
            context.scene.flags[flags.mjRND_SHADOW] = False
            context.scene.flags[flags.mjRND_REFLECTION] = False
        return context

    def _context_errors(self) -> tuple[type[BaseException], ...]:
        """What a driver that cannot make a context raises: MuJoCo, mujoco's GL shim and PyOpenGL each their
        own."""
        opengl = sys.modules.get("OpenGL.error")
        gl_error = (opengl.Error,) if opengl is not None else ()
        return (self._mujoco.FatalError, RuntimeError, ImportError, AttributeError, OSError, *gl_error)


_open: dict[int, OrderedDict[tuple[int, int], Any]] = {}
"""Contexts to close at exit, by the identity of their renderer's table."""


def contexts_open() -> int:
    """How many GL contexts the renderers of this process hold, closed ones left out."""
    return sum(len(contexts) for contexts in _open.values())


def _close_at_exit(contexts: OrderedDict[tuple[int, int], Any]) -> None:
    """Exit handlers run last in, first out, and mujoco registers eglTerminate when it makes its first
    context: ours must be registered after that one to run before it."""
    if not _open:
        atexit.unregister(_close_all)
        atexit.register(_close_all)
    _open[id(contexts)] = contexts


def _close_all() -> None:
    for contexts in list(_open.values()):
        _close_contexts(contexts)


def _close_contexts(contexts: OrderedDict[tuple[int, int], Any]) -> None:
    _open.pop(id(contexts), None)
    while contexts:
        contexts.popitem()[1].close()
