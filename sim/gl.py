"""Which library draws: EGL, OSMesa, or a ray caster that needs no GL.

`import mujoco` reads the environment variable MUJOCO_GL once and binds its GL library there and then, and
PyOpenGL likewise; with a library that is missing the import itself fails. So the choice is made, and tried,
before the first
import: `load_mujoco()` is the one way in which `sim` imports mujoco.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import functools
import importlib
import os
import platform
import sys
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

from episodes.errors import ConfigError, MachineError, did_you_mean

RendererName = Literal["auto", "egl", "osmesa", "glfw", "raycast"]
"""What a user may ask for; `auto` takes the first of egl, osmesa and raycast that works."""

_MUJOCO_OFF = ("disable", "disabled", "off", "false", "0")
_MUJOCO_ON = ("enable", "enabled", "on", "true", "1", "glfw", "glx")
_PACKAGES = {"egl": "libegl1 libegl-mesa0 libgl1-mesa-dri libgl1", "osmesa": "libosmesa6 libgl1"}

_EGL_PLATFORM_DEVICE_EXT = 0x313F
_EGL_MAX_DEVICES = 16
_OSMESA_RGBA = 0x1908


@dataclass(frozen=True)
class Choice:
    """The renderer that was chosen and why."""

    name: str
    """egl, osmesa, glfw, native (macOS, Windows) or raycast."""
    reason: str
    """One sentence for the user."""
    demanded: bool = False
    """Whether somebody asked for this one, so that falling back to another would be wrong."""


def probe_egl() -> str | None:
    """None where an EGL device display starts, else what is missing. Follows the steps of mujoco.egl."""
    if (other := _pyopengl_conflict("egl")) is not None:
        return other
    library = _load("EGL")
    if library is None:
        return "libEGL.so.1 is not installed"
    if _load("OpenGL") is None and _load("GL") is None:
        return "neither libOpenGL.so.0 nor libGL.so.1 is installed"
    library.eglGetProcAddress.restype = ctypes.c_void_p
    library.eglGetProcAddress.argtypes = [ctypes.c_char_p]
    query = library.eglGetProcAddress(b"eglQueryDevicesEXT")
    get_display = library.eglGetProcAddress(b"eglGetPlatformDisplayEXT")
    if not query or not get_display:
        return "libEGL lacks the device extension (EGL_EXT_platform_device)"
    devices = (ctypes.c_void_p * _EGL_MAX_DEVICES)()
    found = ctypes.c_int(0)
    query_devices = ctypes.CFUNCTYPE(
        ctypes.c_uint, ctypes.c_int, ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_int)
    )(query)
    if not query_devices(_EGL_MAX_DEVICES, devices, ctypes.byref(found)) or found.value == 0:
        return "EGL finds no device, not even Mesa's software one"
    platform_display = ctypes.CFUNCTYPE(
        ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int)
    )(get_display)
    library.eglInitialize.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    # The display is left initialised: it is a per-process singleton, and mujoco initialises the same one
    # again.
    for device in devices[: found.value]:
        display = platform_display(_EGL_PLATFORM_DEVICE_EXT, device, None)
        if display and library.eglInitialize(display, None, None):
            return None
    return f"none of the {found.value} EGL devices starts (is a driver such as libgl1-mesa-dri installed?)"


def probe_osmesa() -> str | None:
    """None where an OSMesa context can be made, else what is missing."""
    if (other := _pyopengl_conflict("osmesa")) is not None:
        return other
    library = _load("OSMesa")
    if library is None:
        return "libOSMesa.so is not installed"
    library.OSMesaCreateContextExt.restype = ctypes.c_void_p
    library.OSMesaDestroyContext.argtypes = [ctypes.c_void_p]
    context = library.OSMesaCreateContextExt(_OSMESA_RGBA, 24, 8, 0, None)
    if not context:
        return "OSMesa makes no context"
    library.OSMesaDestroyContext(context)
    return None


def _pyopengl_conflict(name: str) -> str | None:
    set_to = os.environ.get("PYOPENGL_PLATFORM", "")
    return f"PYOPENGL_PLATFORM is set to {set_to!r}" if set_to and set_to.lower() != name else None


@functools.cache
def _load_triton_first() -> None:
    """Load the LLVM inside triton (which comes with torch) before Mesa's.

    Both libraries bring an LLVM. With Mesa's loaded first the process dies of a segmentation fault as soon
    as torch makes an optimiser, which imports triton; the other way round both work.
    """
    with contextlib.suppress(ImportError):
        importlib.import_module("triton._C.libtriton")


def _load(name: str) -> ctypes.CDLL | None:
    _load_triton_first()
    sonames = {
        "EGL": "libEGL.so.1",
        "OpenGL": "libOpenGL.so.0",
        "GL": "libGL.so.1",
        "OSMesa": "libOSMesa.so.8",
    }
    for candidate in (sonames[name], ctypes.util.find_library(name)):
        if candidate is not None:
            try:
                return ctypes.CDLL(candidate, mode=ctypes.RTLD_GLOBAL)
            except OSError:
                continue
    return None


Probe = Callable[[], str | None]
PROBES: Mapping[str, Probe] = {"egl": probe_egl, "osmesa": probe_osmesa}


def decide(
    wanted: str, mujoco_gl: str, probes: Mapping[str, Probe] = PROBES, bound: str | None = None
) -> Choice:
    """The choice as a function of what was asked for.

    Args:
        wanted: a `RendererName`.
        mujoco_gl: value of MUJOCO_GL, '' when unset; set by a person it is a demand like `wanted`.
        probes: what each GL library answers when tried.
        bound: the library that an already imported mujoco holds ('none' when disabled), None before the
            import.

    Raises:
        ConfigError: `wanted` or MUJOCO_GL is no known name.
        MachineError: a library was demanded and does not work.
    """
    known = ("auto", "egl", "osmesa", "glfw", "raycast")
    if wanted not in known:
        raise ConfigError(f"renderer {wanted!r} is unknown: {did_you_mean(wanted, known)}")
    if wanted == "raycast":
        return Choice("raycast", "asked for", demanded=True)
    mujoco_gl = mujoco_gl.strip().lower()
    if wanted == "auto":
        if mujoco_gl in _MUJOCO_OFF:
            return Choice("raycast", f"MUJOCO_GL={mujoco_gl} switches GL off", demanded=True)
        if mujoco_gl in _MUJOCO_ON:
            wanted = "glfw"
        elif mujoco_gl in probes:
            wanted = mujoco_gl
        elif mujoco_gl:
            raise ConfigError(
                f"MUJOCO_GL={mujoco_gl!r} is unknown: {did_you_mean(mujoco_gl, (*probes, 'glfw', 'disable'))}"
            )
    if bound is not None:
        return _with_imported_mujoco(wanted, bound, mujoco_gl)
    if wanted == "glfw":
        return Choice("glfw", "asked for: draws on the display", demanded=True)
    if wanted != "auto":
        if (missing := probes[wanted]()) is not None:
            raise MachineError(
                f"renderer {wanted} was asked for and does not work: {missing}. Install it "
                f"(Debian, Ubuntu: apt-get install {_PACKAGES[wanted]}), or leave the choice open: unset "
                "MUJOCO_GL and use --renderer auto, which falls back to ray casting."
            )
        return Choice(wanted, "asked for", demanded=True)
    failures: list[str] = []
    for name, probe in probes.items():
        if (missing := probe()) is None:
            return Choice(name, "; ".join([*failures, f"{name} works"]))
        failures.append(f"no {name}: {missing}")
    return Choice("raycast", "; ".join(failures) + "; pictures are ray-cast: flat colours, no textures")


def _with_imported_mujoco(wanted: str, bound: str, mujoco_gl: str) -> Choice:
    if wanted in ("auto", bound) and bound in PROBES:
        return Choice(bound, "mujoco was imported with it", demanded=wanted != "auto")
    if wanted == bound == "glfw" and mujoco_gl:
        return Choice("glfw", "mujoco was imported with it", demanded=True)
    if wanted == "auto":
        return Choice(
            "raycast", f"mujoco was imported earlier with GL {bound!r}, which draws nothing headless"
        )
    raise MachineError(
        f"renderer {wanted} was asked for, but mujoco was imported earlier in this process with GL "
        f"{bound!r}. Start the process with MUJOCO_GL={wanted} in its environment."
    )


def _bound_gl() -> str | None:
    module = sys.modules.get("mujoco.gl_context")
    if module is None:
        return None
    context = getattr(module, "GLContext", None)
    return "none" if context is None else str(context.__module__).rpartition(".")[2]


_MARK = "ARMCHAIR_CHOSE_GL"
"""Holds the value of MUJOCO_GL that was chosen here, so that a child process takes it for a choice, not a
demand."""

_made: dict[str, Choice] = {}
"""Choices made before mujoco was imported, by what was asked for, with their full reasons."""


def choose_gl(wanted: str = "auto", environ: MutableMapping[str, str] = os.environ) -> Choice:
    """Choose the renderer and, before the first import of mujoco, set MUJOCO_GL to fit.

    Also turns llvmpipe's own threads off (LP_NUM_THREADS=0) unless they are configured: in a process per
    core they add nothing but hand-offs; frames come out the same bytes either way.

    Raises:
        ConfigError: an unknown name.
        MachineError: a library was demanded (argument or MUJOCO_GL) and does not work.
    """
    environ.setdefault("LP_NUM_THREADS", "0")
    if platform.system() != "Linux":
        name = "raycast" if wanted == "raycast" else "native"
        return Choice(name, "the platform's own GL", demanded=wanted != "auto")
    bound = _bound_gl()
    if bound is not None and wanted in _made and _made[wanted].name in (bound, "raycast"):
        return _made[wanted]
    by_person = environ.get("MUJOCO_GL", "")
    if by_person == environ.get(_MARK):
        by_person = ""
    choice = decide(wanted, by_person, bound=bound)
    if bound is None:
        _made[wanted] = choice
        environ["MUJOCO_GL"] = _mujoco_gl_for(choice)
        if not choice.demanded:
            environ[_MARK] = environ["MUJOCO_GL"]
    return choice


def _mujoco_gl_for(choice: Choice) -> str:
    """A wish for ray casting must not break the import, so GL is off for it even if MUJOCO_GL names a
    library."""
    return "disable" if choice.name == "raycast" else choice.name


def load_mujoco(wanted: str = "auto") -> ModuleType:
    """Import mujoco with a GL library that works, or with none.

    Raises:
        MachineError: mujoco is not installed, or a demanded library does not work.
    """
    choose_gl(wanted)
    try:
        return importlib.import_module("mujoco")
    except ModuleNotFoundError as error:
        raise MachineError(f"{error.name} is not installed: install armchair's requirements.lock.") from error
