"""Which checkpoint is advised, what is tried next, and that the advised command is a real one."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import tyro

from policy.algorithms.bc import BCConfig
from policy.algorithms.brac import BRACConfig
from policy.algorithms.cql import CQLConfig
from policy.algorithms.iql import IQLConfig
from policy.algorithms.oril import ORILConfig
from policy.checkpoint import load_state
from policy.data import DataConfig
from policy.diagnosis.advice import changes, choose, critic_settings, stop_at
from policy.diagnosis.command import arguments, command
from policy.diagnosis.rules import Finding, Rules
from policy.encoders import EncoderConfig
from policy.regularise import Regularisers
from policy.run import RolloutsConfig, TrainConfig
from policy.towers import TowerConfig
from policy.train import train
from policy.training import LoopConfig
from tests.policy.states import assert_same_bits, final

RULES = Rules()
OVER = Finding("overfitting", "said", peak_step=1250)
UNDER = Finding("underfitting", "said", high=("td_unexplained",), figures={"td_unexplained": 0.5})
SOUND = Finding("sound", "said")


def run_of(algo, **rest) -> TrainConfig:
    return TrainConfig(run=Path("runs/a"), data=DataConfig(files=(Path("p.h5"),)), algo=algo, **rest)


def parsed(config: TrainConfig) -> TrainConfig:
    return tyro.cli(TrainConfig, args=arguments(config))


CONFIGS = [
    run_of(IQLConfig()),
    run_of(BCConfig(policy="tanh_gaussian", chunk=4, hidden=(64, 32)), seed=3, batch_size=32),
    run_of(CQLConfig(lagrange=True, importance=False, weight=2.5, regularise=Regularisers(vib=0.01))),
    run_of(BRACConfig(entropy="learned", value_penalty=False, regularise=Regularisers(dropout=0.1))),
    run_of(ORILConfig(iql=IQLConfig(hidden=(8, 8), layer_norm=False, regularise=Regularisers(l2=1e-3)))),
    TrainConfig(
        run=Path("runs/with space"),
        data=DataConfig(
            files=(Path("a b.h5"), Path("c.h5")), prior=(Path("d.h5"),), weights=(1.0, 0.5, 2.0),
            streams=("state", "front"), scale_reward=False, reward="learned",
        ),
        loop=LoopConfig(steps=7, evaluate_every=0, keep_last=0, tensorboard=False),
        encoder=EncoderConfig(kind="workflow-resnet", per_q=True, crop=0.9),
        tower=TowerConfig(kind="timm", model="vit", checkpoint=Path("w.safetensors")),
        num_threads=1, precision="bf16", compile=True, rollouts=RolloutsConfig(env="metaworld/reach-v3"),
    ),
]  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.algo.name)
def test_the_command_of_a_configuration_makes_that_configuration(config) -> None:
    assert parsed(config) == config
    words = shlex.split(command(config))
    assert words[:2] == ["armchair", "train"]
    assert words[2:] == arguments(config)


@pytest.mark.parametrize("algo", [c.algo for c in CONFIGS if c.algo.name != "bc"], ids=lambda a: a.name)
@pytest.mark.parametrize("finding", [OVER, UNDER], ids=lambda f: f.verdict)
def test_every_advised_run_can_be_typed_and_is_another_run_in_another_folder(algo, finding) -> None:
    config = run_of(algo)
    advised = list(changes(finding, config, RULES, pictures=True))
    assert advised
    for change in advised:
        assert parsed(change.config) == change.config
        assert change.config.run not in (config.run, Path())
        assert change.config.algo != config.algo or change.config.encoder != config.encoder
        assert change.config.loop.keep_last == 0
        assert change.config.data == config.data
    assert len({change.config.run for change in advised}) == len(advised)


def names(finding: Finding, config: TrainConfig, **rest) -> list[str]:
    return [change.name for change in changes(finding, config, RULES, **{"pictures": False, **rest})]


def test_the_bottleneck_comes_first_then_dropout_then_weight_decay() -> None:
    config = run_of(CQLConfig())
    for wanted in ("vib", "dropout", "l2"):
        change = next(changes(OVER, config, RULES, pictures=False))
        assert change.name == wanted
        config = change.config
    on = config.algo.regularise
    assert min(on.vib, on.dropout, on.l2) > 0


def test_a_critic_with_residual_blocks_is_not_given_a_bottleneck() -> None:
    config = run_of(CQLConfig(regularise=Regularisers(residual=True)))
    assert names(OVER, config)[0] == "dropout"


def test_against_underfitting_pictures_get_a_residual_encoder_and_vectors_wider_layers() -> None:
    config = run_of(CQLConfig(hidden=(16, 16)))
    assert names(UNDER, config, pictures=True)[0] == "resnet"
    assert names(UNDER, config) == ["width-32", "residual", "dr3"]
    aligned = replace(UNDER, figures={"feature_cosine": 0.95})
    assert names(aligned, config)[0] == "dr3"


def test_what_stands_against_overfitting_is_taken_off_before_capacity_is_added() -> None:
    config = run_of(CQLConfig(hidden=(16, 16), regularise=Regularisers(dropout=0.3, dr3=0.1)))
    first = next(changes(UNDER, config, RULES, pictures=False))
    assert first.name == "unregularised"
    assert critic_settings(first.config.algo).regularise == Regularisers(dr3=0.1)


def test_a_run_too_short_is_lengthened_and_one_with_few_points_looked_at_more_often() -> None:
    config = run_of(IQLConfig())
    longer = next(changes(Finding("undecided", "", missing="steps"), config, RULES, pictures=False))
    assert longer.config.loop.steps == 20_000
    assert longer.config.loop.evaluate_every == 500
    closer = next(changes(Finding("undecided", "", missing="points"), config, RULES, pictures=False))
    assert (closer.config.loop.steps, closer.config.loop.evaluate_every) == (10_000, 250)
    start = Finding("undecided", "", missing="start")
    again = next(changes(start, closer.config, RULES, pictures=False))
    assert again.config.loop.evaluate_every < 250
    assert list(changes(SOUND, config, RULES, pictures=False)) == []


LOOP = LoopConfig(steps=3000, checkpoint_every=500, keep_last=2)
KEPT = {f"step-{n:08d}": n for n in range(500, 3000, 500)} | {"final": 3000}


def test_under_overfitting_the_latest_checkpoint_at_or_before_the_peak_is_taken() -> None:
    found = choose(OVER, LOOP, KEPT, 3000)
    assert (found.step, found.name) == (1000, "step-00001000")
    at_the_peak = choose(replace(OVER, peak_step=1500), LOOP, KEPT, 3000)
    assert at_the_peak.step == 1500


def test_otherwise_the_last_checkpoint_is_taken() -> None:
    for finding in (SOUND, UNDER, Finding("undecided", "")):
        assert choose(finding, LOOP, KEPT, 3000).name == "final"
    assert choose(SOUND, LOOP, {}, 40).name is None


def test_a_deleted_checkpoint_is_named_and_how_it_would_have_been_kept() -> None:
    left = {"step-00002500": 2500, "final": 3000}
    found = choose(OVER, LOOP, left, 3000)
    assert (found.step, found.name) == (1000, None)
    assert "--keep-last 0" in found.note
    assert "--steps 1000" in found.note
    earlier = choose(OVER, LOOP, {"step-00000500": 500, **left}, 3000)
    assert (earlier.step, earlier.name) == (1000, "step-00000500")
    never = choose(replace(OVER, peak_step=300), LOOP, left, 3000)
    assert (never.step, never.name) == (300, None)
    assert "none was saved before the peak" in never.note


def test_the_advised_shorter_run_ends_bit_for_bit_at_the_deleted_checkpoint(make_config) -> None:
    config = make_config(algo=CQLConfig(hidden=(8, 8), samples=2), loop={"keep_last": 0})
    train(config)
    again = stop_at(config, 20)
    assert parsed(again) == again
    train(again)
    kept = load_state(config.run / "checkpoints" / "step-00000020.safetensors")
    assert_same_bits(kept["learner"], final(again.run)["learner"])
