"""Checkpoints of real runs, valued by fitted Q evaluation from their folders."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from episodes.errors import DatasetError
from policy.algorithms.cql import CQLConfig
from policy.algorithms.iql import IQLConfig
from policy.algorithms.oril import ORILConfig
from policy.diagnosis.fqe import Estimate, FqeConfig
from policy.diagnosis.main import DiagnoseConfig, main
from policy.diagnosis.reading import diagnose
from policy.diagnosis.rules import Rules
from policy.diagnosis.valuing import ValueConfig, Valued, _Run, selected, share_best, value_runs
from policy.encoders import EncoderConfig
from policy.run import load_policy
from policy.train import train

QUICK = FqeConfig(members=2, hidden=(8,), steps=20, batch_size=32)
SMALL = IQLConfig(hidden=(8, 8))


@pytest.mark.parametrize(
    ("algo", "data"),
    [
        (SMALL, {"n_step": 3}),
        (CQLConfig(hidden=(8, 8), samples=1), {}),
        (ORILConfig(discriminator_hidden=(8,), discriminator_steps=5, iql=SMALL), {}),
    ],
    ids=["iql", "cql", "oril"],
)
def test_every_checkpoint_has_a_value_with_an_interval_over_all_episodes(algo, data, make_config) -> None:
    config = make_config(algo=algo, data=data, loop={"keep_last": 0})
    train(config)
    valued = value_runs(diagnose((config.run,), Rules()), ValueConfig(checkpoints=9, fit=QUICK))
    assert {each.step for each in valued} == {10, 20, 30}
    for each in valued:
        assert each.estimate.low <= each.estimate.value <= each.estimate.high
        assert each.estimate.episodes == 10
    values = [each.estimate.value for each in valued]
    assert values == sorted(values, reverse=True)


def test_the_policy_that_is_valued_is_the_one_that_would_be_deployed(make_config, pictured: Path) -> None:
    algo = IQLConfig(hidden=(8,))
    data = {"files": (pictured,), "streams": ("state", "front")}
    config = make_config(algo=algo, data=data, encoder=EncoderConfig(kind="workflow"))
    train(config)
    run = _Run(diagnose((config.run,), Rules())[0], ValueConfig(split="train", fit=QUICK))
    acts = run._apply(run.learner("final").policy)
    with h5py.File(pictured) as file:
        obs = file["data/demo_0/obs"]
        graph = load_policy(config.run).graph
        wanted = graph.act({"state": obs["state"][0], "front": obs["front"][0]})
    unit = graph.action_range(acts[0]).detach().numpy()
    np.testing.assert_allclose(unit, wanted, atol=1e-5)
    assert run.states.shape[0] == sum(run.lengths)


def test_an_empty_split_is_refused(make_config, tiny, tmp_path: Path, rng) -> None:
    path = tiny.write(tmp_path / "all.h5", [tiny.episode(rng) for _ in range(3)])
    config = make_config(algo=SMALL, data={"files": (path,)})
    train(config)
    with pytest.raises(DatasetError, match="give train"):
        value_runs(diagnose((config.run,), Rules()), ValueConfig(split="valid", fit=QUICK))


def test_the_advised_checkpoint_is_among_those_valued(make_config) -> None:
    config = make_config(algo=SMALL, loop={"keep_last": 0, "checkpoint_every": 3})
    train(config)
    each = diagnose((config.run,), Rules())[0]
    chosen = type(each.choice)(6, "step-00000006", "said")
    assert selected(each, 1) == ["final"]
    assert selected(replace(each, choice=chosen), 2) == ["step-00000003", "step-00000006", "final"]


def test_shares_of_draws_compare_what_has_one_basis() -> None:
    def valued(draws: tuple[float, ...], basis: str) -> Valued:
        return Valued("run", "final", 1, Estimate(1.0, 0.0, 2.0, draws, 5), basis)

    some = [valued((3.0, 1.0, 5.0, 2.0), "a"), valued((1.0, 2.0, 4.0, 1.0), "a"), valued((0.0,), "b")]
    assert share_best(some) == [0.75, 0.25, 1.0]


def test_the_command_ranks_checkpoints_in_json_and_on_the_page(make_config, capsys) -> None:
    config = make_config(algo=SMALL)
    train(config)
    main(DiagnoseConfig((config.run,), fqe=True, fqe_with=ValueConfig(checkpoints=2, fit=QUICK)))
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(said["fqe"]) >= 2
    assert abs(sum(each["best_in_draws"] for each in said["fqe"]) - 1) < 1e-9
    assert "Fitted Q evaluation" in (config.run / "diagnosis" / "index.html").read_text()
