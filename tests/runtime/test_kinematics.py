"""Forward kinematics against closed forms and against numerical differences."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from episodes.contract import KinematicLink
from policy.runtime.kinematics import Chain

ZERO = (0.0, 0.0, 0.0)
Z = (0.0, 0.0, 1.0)


def test_two_links_in_a_plane_follow_the_textbook() -> None:
    links = [
        KinematicLink("a", ZERO, ZERO, Z),
        KinematicLink("b", (0.5, 0.0, 0.0), ZERO, Z),
        KinematicLink(None, (0.3, 0.0, 0.0), ZERO, Z),
    ]
    q = np.random.default_rng(0).uniform(-3, 3, (20, 2))
    total = q.sum(axis=1)
    expected = np.stack(
        [
            0.5 * np.cos(q[:, 0]) + 0.3 * np.cos(total),
            0.5 * np.sin(q[:, 0]) + 0.3 * np.sin(total),
            0.0 * total,
        ],
        axis=1,
    )
    np.testing.assert_allclose(Chain(links, ["a", "b"])(q), expected, atol=1e-15)


def test_turns_and_axes_are_those_of_a_urdf() -> None:
    rng = np.random.default_rng(1)
    rpy, axis, angle = rng.uniform(-3, 3, 3), rng.normal(size=3), 0.7
    links = [KinematicLink("a", (0.1, 0.2, 0.3), tuple(rpy), tuple(axis)), KinematicLink(None, Z, ZERO, Z)]
    position, rotation = Chain(links, ["a"]).pose(np.array([angle]))
    turned = Rotation.from_euler("xyz", rpy) * Rotation.from_rotvec(angle * axis / np.linalg.norm(axis))
    np.testing.assert_allclose(rotation, turned.as_matrix(), atol=1e-12)
    np.testing.assert_allclose(position - turned.apply(Z), [0.1, 0.2, 0.3], atol=1e-12)


def test_joints_are_taken_by_name_whatever_the_order_of_the_chain() -> None:
    links = [KinematicLink("b", (0.0, 0.0, 0.1), ZERO, Z), KinematicLink("a", (0.4, 0.0, 0.0), ZERO, Z)]
    links.append(KinematicLink(None, (0.2, 0.0, 0.0), ZERO, Z))
    one, other = Chain(links, ["a", "b"]), Chain(links, ["b", "a"])
    np.testing.assert_array_equal(one(np.array([0.3, -0.8])), other(np.array([-0.8, 0.3])))


def test_the_jacobian_is_the_derivative() -> None:
    rng = np.random.default_rng(2)
    names = [f"j{i}" for i in range(5)]
    links = [
        KinematicLink(n, tuple(rng.normal(0, 0.2, 3)), tuple(rng.normal(size=3)), tuple(rng.normal(size=3)))
        for n in names
    ]
    links.append(KinematicLink(None, (0.0, 0.1, 0.2), ZERO, Z))
    chain, q, step = Chain(links, names), rng.uniform(-2, 2, 5), 1e-6
    jacobian = chain.jacobian(q)
    for i in range(5):
        ahead, behind = q.copy(), q.copy()
        ahead[i] += step
        behind[i] -= step
        np.testing.assert_allclose(jacobian[:3, i], (chain(ahead) - chain(behind)) / (2 * step), atol=1e-8)
        turn = Rotation.from_matrix(chain.pose(ahead)[1] @ chain.pose(behind)[1].T).as_rotvec() / (2 * step)
        np.testing.assert_allclose(jacobian[3:, i], turn, atol=1e-6)
