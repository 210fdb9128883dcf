"""A frozen camera is told from a still scene."""

from __future__ import annotations

import numpy as np

from policy.runtime.freshness import FreezeConfig, FrozenCamera

PICTURE = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


def test_a_still_arm_in_front_of_a_still_camera_is_not_frozen() -> None:
    camera = FrozenCamera()
    assert not any(camera.see(k, PICTURE, np.array([0.1, 0.2])) for k in range(1000))


def test_the_same_pixels_under_new_stamps_while_a_joint_moves_are_frozen() -> None:
    camera = FrozenCamera(FreezeConfig(frames=5, moved=0.02))
    verdicts = [camera.see(k, PICTURE.copy(), np.array([0.01 * k, 0.0])) for k in range(8)]
    assert verdicts == [False] * 4 + [True] * 4


def test_a_joint_that_goes_and_comes_back_has_moved() -> None:
    camera = FrozenCamera(FreezeConfig(frames=4, moved=0.05))
    swing = [0.0, 0.06, 0.0, 0.0]
    assert [camera.see(k, PICTURE, np.array([x])) for k, x in enumerate(swing)][-1]


def test_one_changed_pixel_begins_anew() -> None:
    camera = FrozenCamera(FreezeConfig(frames=3, moved=0.02))
    for k in range(3):
        camera.see(k, PICTURE, np.array([0.1 * k]))
    assert camera.frozen
    other = PICTURE.copy()
    other[0, 0, 0] += 1
    assert not camera.see(3, other, np.array([0.5]))


def test_a_frame_taken_twice_is_one_frame() -> None:
    camera = FrozenCamera(FreezeConfig(frames=3, moved=0.02))
    assert not any(camera.see(7, PICTURE, np.array([0.1 * k])) for k in range(50))
