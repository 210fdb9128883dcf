"""What a policy node was fed, live, is what its recording gives when it is replayed: to the last bit.

The policy's graph answers with the bits of its observation, so the tensors are read off the topic on which
the node publishes its chunks: nothing in the node knows of the test.

Not covered: messages without a stamp (Float64MultiArray), which every process stamps when it receives them,
and pictures that a node in real time skips because a newer one waits.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from episodes.align import Aligned, CausalAligner, align_episode
from episodes.dataset import Dataset
from episodes.reader import Episode

from .conftest import Robot, Scene
from .identity import fed
from .playing import in_lockstep, in_real_time


def replayed(episode: Episode) -> list[Aligned]:
    """The observation at each sample of the reference stream, the raw samples pushed as they came."""
    contract = episode.contract
    samples = []
    for place, name in enumerate(contract.observations):
        stream = episode.stream(name)
        for value, stamp, recv in zip(
            stream.read(), stream.stamp_ns.tolist(), stream.recv_ns.tolist(), strict=True
        ):
            samples.append((recv, place, len(samples), name, value, stamp))
    aligner = CausalAligner(contract.observations, contract.reference)
    found = []
    for recv_ns, _, _, name, value, stamp_ns in sorted(samples, key=lambda s: s[:3]):
        aligner.push(name, value, stamp_ns, recv_ns)
        if name == contract.reference:
            aligned = aligner.at(recv_ns)
            assert isinstance(aligned, Aligned)
            found.append(aligned)
    return found


def only_episode(scene: Scene) -> Episode:
    dataset = Dataset.open(scene.dataset)
    (episode_id,) = dataset.ids()
    return dataset.read(episode_id)


def assert_fed(robot: Robot, found: list[Aligned]) -> None:
    """Every answer of the live node holds the bits of the observation that was replayed."""
    assert len(robot.chunks) == len(found)
    for (chunk, _), aligned in zip(robot.chunks, found, strict=True):
        assert chunk is not None
        assert chunk.observation_ns == aligned.observation_ns
        assert chunk.actions.tobytes() == fed(robot.contract, aligned.values).tobytes()


def play_in_real_time(
    scene: Callable[..., Scene], rounds: int, seed: int, *, handed: tuple[str, ...] = ()
) -> None:
    made = scene("realtime", handed=handed)
    in_real_time(made, rounds, seed)
    assert made.robot.call("recorder/success")[0]
    with only_episode(made) as episode:
        assert not any(int(stream.attrs["dropped"]) for stream in episode.streams.values())
        found = replayed(episode)
        assert_fed(made.robot, found)
        blended = [
            a for a in found if a.values["state"].tolist() not in episode.stream("state").read().tolist()
        ]
        assert blended, "of some observations the joints lie between two samples"
        late = [s for s in episode.streams.values() if (np.diff(s.stamp_ns) < 0).any()]
        assert late, "some samples came out of order"
    said = [f"{topic}: pictures come through shared memory" for topic in made.robot.outlets]
    text = made.policy.end()[1]
    assert all(line in text for line in said), text


def test_replaying_a_recording_gives_the_tensors_of_the_live_policy_node(scene: Callable[..., Scene]) -> None:
    """The reference's pictures come through shared memory, the depth and the JPEGs over DDS."""
    play_in_real_time(scene, rounds=6, seed=0, handed=("front/image_raw",))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 6))
@pytest.mark.parametrize("handed", [(), ("front/image_raw", "depth/image_raw")], ids=["dds", "shared"])
def test_replaying_long_recordings_gives_the_tensors_of_the_live_policy_node(
    handed: tuple[str, ...], seed: int, scene: Callable[..., Scene]
) -> None:
    play_in_real_time(scene, rounds=60, seed=seed, handed=handed)


def test_in_lock_step_the_live_tensors_are_those_of_the_aligned_episode_too(
    scene: Callable[..., Scene],
) -> None:
    made = scene("lockstep")
    in_lockstep(made, ticks=12)
    assert made.robot.call("recorder/success")[0]
    with only_episode(made) as episode:
        assert_fed(made.robot, replayed(episode))
        aligned = align_episode(episode)
    assert len(aligned) == 12
    for k, (chunk, tick_ns) in enumerate(made.robot.chunks):
        assert chunk is not None
        assert tick_ns == aligned.tick_ns[k]
        observation = {name: values[k] for name, values in aligned.observations.items()}
        assert chunk.actions.tobytes() == fed(made.robot.contract, observation).tobytes()
