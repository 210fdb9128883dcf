"""robomimic files in and out, without robomimic (tests/peers trains with the real one)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from episodes.align import align_episode
from episodes.bags.robomimic import (
    RobomimicOptions,
    export_robomimic,
    import_robomimic,
    verify_robomimic,
)
from episodes.contract import Contract, Source, parse_contract
from episodes.dataset import Dataset
from episodes.errors import DatasetError
from episodes.labels import read_labels, write_labels
from episodes.writer import ExtraStream

TEXT = """
robot: panda
rate_hz: 20
reference: eye
observations:
  eye: {topic: eye, type: sensor_msgs/msg/Image, shape: [6, 8, 3], max_age_ms: 100}
  state: {topic: s, type: std_msgs/msg/Float64MultiArray, names: [a, b, c], align: linear, max_age_ms: 100}
actions:
  arm: {kind: cartesian_delta, topic: d, type: std_msgs/msg/Float64MultiArray, names: [dx, dy],
        lower: [-1, -1], upper: [1, 1]}
"""
T0, STEP = 1_000_000_000, 50_000_000


@pytest.fixture(scope="module")
def panda() -> Contract:
    return parse_contract(TEXT, "panda.yaml")


def simulated(folder: Path, contract: Contract, lengths: tuple[int, ...] = (7, 9)) -> Dataset:
    dataset = Dataset.create(folder, contract)
    for number, steps in enumerate(lengths):
        rng = np.random.default_rng(number)
        truth = ExtraStream("truth", (2,), "float64", ("reward", "success"))
        with dataset.new_writer(
            clock="sim", started_ns=T0, episode_id=f"e{number}", extra_streams=(truth,), task="lift"
        ) as writer:
            for k in range(steps + 1):
                t = T0 + k * STEP
                writer.append("eye", rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), t, t)
                writer.append("state", rng.normal(size=3), t, t)
                if k:
                    writer.append("truth", [k / 10, float(k == steps)], t, t)
                if k < steps:
                    writer.append_command(rng.uniform(-1, 1, 2), t, t, t, Source.SCRIPT)
            writer.finish("success", "sim", "terminated" if number else "horizon")
        write_labels(dataset, "vlm", f"e{number}", np.arange(steps, dtype=np.float32), np.arange(steps) != 2)
    return dataset


def foreign(path: Path, *, next_obs: bool = True, **changes: Any) -> Path:
    """A file as robomimic's own conversion scripts write it."""
    rng = np.random.default_rng(5)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = '{"env_name": "Lift", "type": 1, "env_kwargs": {}}'
        for number in (0, 1, 10, 2):
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = 8
            columns = {
                "actions": rng.uniform(-1, 1, (8, 2)),
                "rewards": np.eye(8)[7],
                "dones": np.eye(8)[7].astype(int),
                "obs/agentview_image": rng.integers(0, 256, (8, 6, 8, 3), dtype=np.uint8),
                "obs/robot0_eef_pos": rng.normal(size=(8, 2)),
                "obs/gripper": rng.normal(size=(8, 1)),
            } | changes
            if next_obs:
                columns |= {
                    k.replace("obs/", "next_obs/"): np.roll(v, -1, 0)
                    for k, v in columns.items()
                    if "obs/" in k
                }
            for key, value in columns.items():
                demo[key] = value
        file["mask/few"] = np.array([b"demo_10", b"demo_1"])
    return path


MAP = RobomimicOptions(keys=(("eye", "agentview_image"), ("state", "robot0_eef_pos+gripper")))


def test_a_prepared_file_imports_to_episodes_that_prepare_to_the_same_file(
    tmp_path: Path, panda: Contract
) -> None:
    dataset = simulated(tmp_path / "one", panda)
    first = export_robomimic(dataset, tmp_path / "first.h5", ("eye", "state"), "truth")
    assert first.warnings == ()
    again = Dataset.create(tmp_path / "two", panda)
    made = import_robomimic(first.prepared.path, again)
    assert made.missing == ()
    assert again.ids() == ["first-demo_0", "first-demo_1"]
    export_robomimic(again, tmp_path / "second.h5", ("eye", "state"), "truth")
    with h5py.File(tmp_path / "first.h5") as a, h5py.File(tmp_path / "second.h5") as b:
        names: list[str] = []
        a["data"].visititems(
            lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None
        )
        assert len(names) > 20
        for name in names:
            assert a["data"][name][()].tobytes() == b["data"][name][()].tobytes(), name
        for demo in ("demo_0", "demo_1"):
            for key in ("outcome", "task", "num_samples"):
                assert a["data"][demo].attrs[key] == b["data"][demo].attrs[key]
    labels = read_labels(again, "vlm", "first-demo_1")
    assert labels.valid.tolist() == (np.arange(9) != 2).tolist()


@pytest.mark.parametrize("next_obs", [True, False])
def test_a_foreign_file_aligns_to_its_own_frames_and_actions(
    next_obs: bool, tmp_path: Path, panda: Contract
) -> None:
    path = foreign(tmp_path / "lift.hdf5", next_obs=next_obs)
    dataset = Dataset.create(tmp_path / "d", panda)
    made = import_robomimic(path, dataset, MAP)
    assert made.missing == ()
    assert [p.name.partition("_")[2] for p in made.episodes] == [f"lift-demo_{n}.h5" for n in (0, 1, 2, 10)]
    steps = 8 if next_obs else 7
    with dataset.read("lift-demo_10") as episode, h5py.File(path) as file:
        demo, aligned = file["data/demo_10"], align_episode(episode)
        assert len(aligned) == steps
        np.testing.assert_array_equal(aligned.actions, demo["actions"][:steps])
        np.testing.assert_array_equal(
            aligned.observations["eye"][:8], demo["obs/agentview_image"][: steps + 1]
        )
        side = np.concatenate([demo["obs/robot0_eef_pos"][:], demo["obs/gripper"][:]], axis=1)
        np.testing.assert_array_equal(aligned.observations["state"][:8], side[: steps + 1])
        if next_obs:
            np.testing.assert_array_equal(aligned.observations["eye"][8], demo["next_obs/agentview_image"][7])
        assert np.diff(aligned.tick_ns).tolist() == [STEP] * steps, "stamps at the contract's rate"
        assert set(aligned.sources) == {Source.TELEOP}
        assert episode.attrs["outcome"] == "unknown", "a foreign file does not say what its rewards mean"
    assert read_labels(dataset, "robomimic", "lift-demo_10").reward.tolist() == np.eye(8)[7][:steps].tolist()


def test_a_filter_key_selects_demos_and_a_second_import_adds_the_rest(
    tmp_path: Path, panda: Contract
) -> None:
    path = foreign(tmp_path / "lift.hdf5")
    dataset = Dataset.create(tmp_path / "d", panda)
    few = RobomimicOptions(keys=MAP.keys, filter_key="few")
    assert len(import_robomimic(path, dataset, few).episodes) == 2
    rest = import_robomimic(path, dataset, MAP)
    assert (len(rest.episodes), rest.already) == (2, ("lift-demo_1", "lift-demo_10"))
    with pytest.raises(DatasetError, match=r"no filter key 'fwe'; did you mean 'few'"):
        import_robomimic(path, dataset, RobomimicOptions(filter_key="fwe"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actions": np.zeros((8, 7))}, r"actions have \[7\] entries, the contract 2 \(dx, dy\)"),
        ({"actions": np.full((8, 2), np.nan)}, "the action of step 0 is not finite"),
        (
            {"obs/agentview_image": np.zeros((8, 84, 84, 3), np.uint8)},
            r"uint8 \[84, 84, 3\], the contract says",
        ),
        (
            {"obs/agentview_image": np.zeros((8, 6, 8, 3), "f4")},
            r"float32 \[6, 8, 3\], the contract says uint8",
        ),
    ],
)
def test_what_does_not_fit_the_contract_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path, panda: Contract
) -> None:
    path = foreign(tmp_path / "lift.hdf5", **changes)
    dataset = Dataset.create(tmp_path / "d", panda)
    with pytest.raises(DatasetError, match=message):
        import_robomimic(path, dataset, MAP)
    assert list((dataset.path / "episodes").iterdir()) == []


def test_a_missing_reference_stream_says_how_to_map_it(tmp_path: Path, panda: Contract) -> None:
    path = foreign(tmp_path / "lift.hdf5")
    dataset = Dataset.create(tmp_path / "d", panda)
    with pytest.raises(
        DatasetError, match=r"'eye' is not in obs, which holds agentview_image \[6, 8, 3\].*--keys"
    ):
        import_robomimic(path, dataset)
    only = RobomimicOptions(keys=(("eye", "agentview_image"),))
    assert "stream 'state' is not in obs" in import_robomimic(path, dataset, only).missing[0]
    (tmp_path / "x.hdf5").write_bytes(b"nothing")
    with pytest.raises(DatasetError, match=r"x\.hdf5: cannot be read as a robomimic file"):
        import_robomimic(tmp_path / "x.hdf5", dataset)


def test_an_export_that_robomimic_would_stumble_over_is_told(tmp_path: Path, panda: Contract) -> None:
    wide = parse_contract(TEXT.replace("[-1, -1]", "[-9, -9]").replace("[1, 1]", "[9, 9]"), "wide.yaml")
    dataset = Dataset.create(tmp_path / "d", wide)
    with dataset.new_writer(clock="sim", started_ns=T0, episode_id="a") as writer:
        for k in range(4):
            t = T0 + k * STEP
            writer.append("eye", np.zeros((6, 8, 3), np.uint8), t, t)
            writer.append("state", [0, 1, 2], t, t)
            writer.append_command([2.5, 0], t, t, t, Source.TELEOP)
        writer.finish()
    made = export_robomimic(dataset, tmp_path / "o.h5")
    assert "no rewards" in made.warnings[0]
    assert "actions reach 2.5" in made.warnings[1]
    with h5py.File(tmp_path / "o.h5", "r+") as file:
        file["data"].attrs["total"] = 99
    with pytest.raises(DatasetError, match="total is not the sum"):
        verify_robomimic(tmp_path / "o.h5")
    assert verify_robomimic(foreign_verified(tmp_path)) == ()


def foreign_verified(folder: Path) -> Path:
    path = foreign(folder / "f.hdf5")
    with h5py.File(path, "r+") as file:
        file["data"].attrs["total"] = 32
    return path
