"""The functions of FleX's binding that SoftGym calls, for one rope (scene 2) or some water (scene 1).

As FleX does, it has one scene in a process, keeps single precision, and prints on the C library's standard
output. DOUBLE_FAULT makes a step go wrong, once there are pickers: die, hang, raise, nan.
"""

import ctypes
import os
import sys

import numpy as np

DT = 0.01
_PER_SHAPE = 14


class _Scene:
    size = (720, 720)
    positions = np.zeros((0, 4), np.float32)
    velocities = np.zeros((0, 3), np.float32)
    shapes = np.zeros((0, _PER_SHAPE), np.float32)
    rest = 0.0
    camera = np.zeros(8)


def _say(text):
    sys.stdout.flush()
    os.write(1, (text + "\n").encode())


def init(headless, render, width, height):
    """Start FleX. It prints its devices, whoever reads standard output."""
    assert headless, "there is no display"
    _Scene.size = (width, height)
    _say("Compute Device: double")


def clean():
    """End FleX."""
    _say("clean")


def set_scene(index, params, flags):
    """Scene 1: water, whose grid is in params[11:14]; scene 2: a rope of params[6] segments."""
    _Scene.shapes = np.zeros((0, _PER_SHAPE), np.float32)
    if index == 2:
        n, _Scene.rest = int(params[6]) + 1, params[5] * 0.5
        points = np.zeros((n, 4), np.float32)
        points[:, 0] = (np.arange(n) - n / 2.0) * _Scene.rest
    elif index == 1:
        x, y, z = (int(side) for side in params[11:14])
        grid = np.stack(np.meshgrid(np.arange(x), np.arange(y), np.arange(z)), -1).reshape(-1, 3)
        points = np.zeros((len(grid), 4), np.float32)
        points[:, :3], _Scene.rest = grid * params[0] * params[1], 0.0
    else:
        raise ValueError("no scene {}".format(index))
    points[:, 3] = 1.0
    _Scene.positions, _Scene.velocities = points, np.zeros((len(points), 3), np.float32)
    _say("scene {}".format(index))


def step(**_):
    """10 ms: gravity, the floor, and for a rope its length, by position-based dynamics; water goes where its
    glass went."""
    fault = os.environ.get("DOUBLE_FAULT", "") if len(_Scene.shapes) else ""
    _fail(fault)
    p, v, held = _Scene.positions, _Scene.velocities, _Scene.positions[:, 3:] == 0
    old = p[:, :3].copy()
    v[:, 1] -= np.float32(9.8 * DT)
    p[:, :3] = np.where(held, old, old + np.float32(0.98 * DT) * v)
    if _Scene.rest:
        for _ in range(8):
            for first in (0, 1):
                _pull(p, first)
            p[:, 1] = np.maximum(p[:, 1], 0.0)
    elif len(_Scene.shapes):
        p[:, 0] += _Scene.shapes[0, 0] - _Scene.shapes[0, 3]
    p[:, 1] = np.maximum(p[:, 1], 0.0)
    v[:] = (p[:, :3] - old) / np.float32(DT) * np.float32(0.9)
    if fault == "nan":
        p[0, 0] = np.nan


def _pull(p, first):
    """Bring every second pair of neighbours to its rest length."""
    n = (len(p) - first) // 2 * 2 + first
    a, b = p[first:n:2], p[first + 1 : n : 2]
    way = b[:, :3] - a[:, :3]
    length = np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-9)
    weight = np.maximum(a[:, 3:] + b[:, 3:], 1e-9)
    by = way * (1.0 - _Scene.rest / length) / weight
    a[:, :3] += a[:, 3:] * by
    b[:, :3] -= b[:, 3:] * by


def _fail(fault):
    if fault == "die":
        sys.stderr.write("FleX: an illegal memory access was encountered\n")
        sys.stderr.flush()
        os.abort()
    if fault == "hang":
        # In C, with the interpreter's lock held, as FleX does.
        ctypes.PyDLL(None).sleep(1000)
    if fault == "raise":
        raise RuntimeError("the solver is out of memory")


def render():
    """(height * width * 4,) picture from above, its last row first, and depth: the rope blue, pickers red."""
    width, height = _Scene.size
    picture = np.empty((height, width, 4), np.float32)
    picture[:] = (120, 140, 120, 255)
    picture[: height // 2, :, 0] += 40
    picture[:, :, 2] += 20 * _Scene.camera[0]
    sides = np.array([width, height])
    for points, colour, radius in (
        (_Scene.positions[:, [0, 2]] - _Scene.camera[[0, 2]], (30, 60, 200), 5),
        (_Scene.shapes[_Scene.shapes[:, 1] < 100][:, [0, 2]] - _Scene.camera[[0, 2]], (200, 30, 30), 12),
    ):
        pixels = (points * sides + sides / 2).astype(int)
        for x, y in pixels:
            picture[max(y - radius, 0) : max(y + radius, 0), max(x - radius, 0) : max(x + radius, 0), :3] = (
                colour
            )
    return picture[::-1].ravel(), np.zeros(height * width, np.float32)


def get_n_particles():
    """How many there are."""
    return len(_Scene.positions)


def get_positions():
    """(n * 4,) positions and inverse masses."""
    return _Scene.positions.ravel().copy()


def set_positions(values):
    """Set them; as in FleX what there is too much of is left out."""
    _set(_Scene.positions, values)


def get_velocities():
    """(n * 3,) m/s."""
    return _Scene.velocities.ravel().copy()


def set_velocities(values):
    """Set them."""
    _set(_Scene.velocities, values)


def get_shape_states():
    """(m * 14,) position, previous position, quaternion, previous quaternion."""
    return _Scene.shapes.ravel().copy()


def set_shape_states(values):
    """Set them; none is added."""
    _set(_Scene.shapes, values)


def _set(held, values):
    """FleX reads past the end of what is too short."""
    given = np.asarray(values, np.float32).ravel()
    assert len(given) >= held.size, "{} numbers for {}".format(len(given), held.size)
    held[:] = given[: held.size].reshape(held.shape)


def add_sphere(radius, position, quaternion):
    """A picker."""
    _add(position, quaternion)


def add_box(half_edge, centre, quaternion):
    """A wall."""
    _add(centre, quaternion)


def _add(position, quaternion):
    shape = np.hstack([position, position, quaternion, quaternion]).astype(np.float32)
    _Scene.shapes = np.vstack([_Scene.shapes, shape])


def get_phases():
    """(n,) groups."""
    return np.zeros(len(_Scene.positions), np.int32)


def set_phases(values):
    """Nothing here depends on them."""


def set_camera_params(values):
    """Position, angle, width, height."""
    assert len(values) == 8
    _Scene.camera = np.asarray(values, float)
