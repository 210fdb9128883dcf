"""The paper's forms, ResNet-18 from a file, and the fit of every kind from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.special import expit
from torch import nn
from torchvision.models import resnet18

from armchair import main as armchair
from episodes.dataset import Dataset
from episodes.errors import ConfigError
from episodes.labels import read_labels
from policy.checkpoint import load_state
from reward.clients.protocol import JudgeIdentity, Kind, Outcome, Verdict
from reward.drawing import DrawConfig, draw_pairs, labelled_scores, question_of
from reward.fitting import RewardConfig, fit_reward, new_ensemble
from reward.forms import in_form, paper_config
from reward.frames import Frames, load_frames
from reward.model import load_model
from reward.networks import NetworkConfig, ResNetConfig, StateActionConfig, new_member
from reward.optimise import OptimiseConfig
from reward.pairs import LabelledPairs
from reward.preference import RewardEnsemble, predict
from reward.records import StoredAnswer
from reward.store import LabelStore
from reward.stored import rebuild

CPU = torch.device("cpu")
SMALL = ["--network.kernels", "5", "3", "--network.channels", "8", "8", "--network.strides", "3", "2"]


def test_the_papers_resnet_is_torchvisions_with_one_unbounded_output() -> None:
    torch.manual_seed(3)
    theirs = resnet18(weights=None, num_classes=1).eval()
    ours = new_member(NetworkConfig(kind="resnet"), (40, 48)).eval()
    ours.features.load_state_dict({k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")})
    ours.head.load_state_dict({"weight": theirs.fc.weight, "bias": theirs.fc.bias})
    pictures = torch.rand(2, 3, 40, 48)
    with torch.inference_mode():
        torch.testing.assert_close(ours(pictures), theirs(pictures)[:, 0])
    config = paper_config(kind="resnet")
    assert (config.network.head, config.optimise.batch_pairs) == ("linear", 32)


def test_the_papers_perceptron_has_three_layers_of_256_and_a_tanh() -> None:
    config = paper_config(kind="state-action")
    member = new_member(config.network, (43,))
    assert [(m.in_features, m.out_features) for m in member.features if isinstance(m, nn.Linear)] == [
        (43, 256),
        (256, 256),
        (256, 256),
    ]
    assert sum(isinstance(m, nn.LeakyReLU) for m in member.features) == 3
    assert (config.network.head, config.optimise.batch_pairs) == ("tanh", 128)
    with torch.inference_mode():
        assert member(1e6 * torch.ones(2, 43)).abs().max() <= 1


@pytest.mark.parametrize(("head", "function"), [("tanh", np.tanh), ("sigmoid", expit), ("relu", np.abs)])
def test_heads_bound_a_reward_as_they_say(head: str, function: Callable[[float], float]) -> None:
    member = new_member(NetworkConfig(kind="state-action", head=head), (4,))  # type: ignore[arg-type]
    with torch.inference_mode():
        member.head.weight.zero_()
        member.head.bias.fill_(0.7)
        assert float(member(torch.zeros(1, 4))[0]) == pytest.approx(function(0.7), abs=1e-6)


def test_the_form_of_the_paper_settles_its_options_and_leaves_others_free() -> None:
    wanted = RewardConfig(
        seed=4, held_out=0.2, network=NetworkConfig(kind="state-action", segment=5, members=7)
    )
    found = in_form("paper", wanted)
    assert (found.seed, found.held_out, found.network.segment, found.network.members) == (4, 0.2, 5, 7)
    assert (found.network.head, found.optimise.early_stop, found.centre) == ("tanh", "accuracy", False)
    assert in_form("recipe", wanted) == wanted
    with pytest.raises(ConfigError, match=r"settles --optimise.shift, --network.head"):
        in_form("paper", RewardConfig(optimise=OptimiseConfig(shift=3), network=NetworkConfig(head="relu")))
    with pytest.raises(ConfigError, match="the paper has cnn, resnet, state-action"):
        in_form("paper", RewardConfig(network=NetworkConfig(kind="encoder")))


def one_frame(images: np.ndarray) -> Frames:
    return Frames(("e",), np.array([0, len(images)]), images, np.full(len(images), np.nan), None)


def test_resnet_begins_with_the_weights_of_a_file_and_sees_pictures_as_imagenet_was(tmp_path: Path) -> None:
    torch.manual_seed(5)
    theirs = resnet18(weights=None).eval()
    save_file(theirs.state_dict(), tmp_path / "r18.safetensors")
    torch.save(theirs.state_dict(), tmp_path / "r18.pth")
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 48, 3), dtype=np.uint8)
    pictures = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    pictures = (pictures - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor(
        [0.229, 0.224, 0.225]
    )[:, None, None]
    theirs.fc = nn.Identity()
    for name in ("r18.safetensors", "r18.pth"):
        network = NetworkConfig(kind="resnet", members=2, resnet=ResNetConfig(tmp_path / name))
        ensemble = new_ensemble(one_frame(images), RewardConfig(network=network, crop="none"), CPU).eval()
        with torch.inference_mode():
            expected = theirs(pictures)
            for member in ensemble.members:
                found = member.features(ensemble.prepare(torch.from_numpy(images)))  # type: ignore[operator]
                torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
        first, second = predict(ensemble, images)
        assert not np.array_equal(first, second), "heads differ"


def test_files_that_are_no_resnet_are_refused(tmp_path: Path) -> None:
    images = np.zeros((1, 40, 48, 3), np.uint8)
    save_file({"conv1.weight": torch.zeros(3, 3)}, tmp_path / "other.safetensors")
    (tmp_path / "text.pth").write_text("weights")
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")
    for name in ("other.safetensors", "text.pth", "module.pth", "missing.pth"):
        network = NetworkConfig(kind="resnet", members=1, resnet=ResNetConfig(tmp_path / name))
        with pytest.raises(ConfigError, match=f"{name}: no ResNet-18 weights"):
            new_ensemble(one_frame(images), RewardConfig(network=network, crop="none"), CPU)


def test_settings_come_back_from_json_as_they_were() -> None:
    config = NetworkConfig(
        kind="resnet",
        resnet=ResNetConfig(Path("w.pth")),
        state_action=StateActionConfig(hidden=(8,), streams=("a",)),
    )
    stored = json.loads(
        json.dumps(
            {
                **vars(config),
                "resnet": {"weights": "w.pth"},
                "state_action": vars(config.state_action),
                "probe": {},
            }
        )
    )
    assert rebuild(NetworkConfig, stored) == config
    assert rebuild(NetworkConfig, {"members": 2}) == NetworkConfig(members=2)
    with pytest.raises(TypeError, match="no 'kernel'"):
        rebuild(NetworkConfig, {"kernel": 3})
    with pytest.raises(TypeError, match="table"):
        rebuild(NetworkConfig, {"resnet": "w.pth"})


@pytest.mark.parametrize("seed", [0, 2])
def test_the_early_stop_chooses_the_epoch_that_numpy_chooses(
    frames: Frames, tmp_path: Path, seed: int
) -> None:
    """Held-out losses of every epoch, from the weights of every epoch, with numpy's own likelihood."""
    rng = np.random.default_rng(seed)
    first, second = rng.choice(frames.judged, size=(2, 60))
    label = (rng.random(60) < expit(frames.truth[second] - frames.truth[first])).astype(np.float32)
    pairs = LabelledPairs(first, second, label, np.arange(60) % 3 == 0)
    network = NetworkConfig(kernels=(5, 3), channels=(8, 8), strides=(3, 2), members=2)
    config = RewardConfig(
        network=network,
        optimise=OptimiseConfig(
            epochs=9, batch_pairs=8, patience=2, shift=0, learning_rate=4e-3, precision="fp32"
        ),
        seed=seed,
    )
    held, checkpoint = pairs.held_out, tmp_path / "fit.safetensors"
    losses: list[float] = []
    rewards: list[np.ndarray] = []
    looker = new_ensemble(frames, config, CPU)

    def look(done: int, total: int) -> None:
        looker.members.load_state_dict(load_state(checkpoint)["members"])
        rewards.append(predict(looker, looker.box.crop(frames.images)))
        d = rewards[-1][:, second[held]].astype(np.float64) - rewards[-1][:, first[held]]
        p = 0.9 * expit(d) + 0.1 * expit(-d)
        losses.append(float(-np.log(np.where(label[held] == 1, p, 1 - p)).mean()))

    through = replace(config, optimise=replace(config.optimise, early_stop="none"))
    fit_reward(frames, pairs, through, CPU, stream="front", checkpoint=checkpoint, progress=look)
    stop = next((k for k in range(9) if k - int(np.argmin(losses[: k + 1])) >= 2), 8)
    best = int(np.argmin(losses[: stop + 1]))
    found = fit_reward(frames, pairs, config, CPU, stream="front")
    assert len(found.history) == stop + 1
    np.testing.assert_allclose([e.held_out_loss for e in found.history], losses[: stop + 1], rtol=1e-4)
    np.testing.assert_array_equal(found.rewards, rewards[best])


def test_scores_of_a_judge_are_fitted_from_the_command_line(
    dataset: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = load_frames(dataset, "front")
    with LabelStore(dataset.path / "labels.sqlite") as store:
        rate(store, frames, "rated", Kind.PROGRESS, 90)
        assert question_of(store, "rated") is Kind.PROGRESS
        found = labelled_scores(store, store.drawn("rated"), frames, Kind.PROGRESS, 0.4)
    assert len(found) == 90
    assert set(np.unique(found.target)) <= {-1.0, -0.5, 0.0, 0.5, 1.0}
    assert 10 < found.held_out.sum() < 60
    path = str(dataset.path)
    words = ["fit", path, *SMALL, "--held-out", "0.4", "--optimise.epochs", "12"]
    words += ["--optimise.batch-pairs", "8"]
    assert armchair(words) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "90 scored frames" in said
    assert "held-out scores: mean squared error" in said
    figures = load_model(dataset.path / "rewards" / "rated", CPU).card["scores"]
    assert figures["squared_error"] < 0.5 * figures["constant_error"]
    assert figures["rank_agreement"] > 0.6
    assert armchair(["relabel", path]) == 0
    reward = np.concatenate([read_labels(dataset, "learned", f"e{n}").reward for n in range(8)])
    assert np.corrcoef(reward, frames.truth[frames.judged])[0, 1] > 0.8
    assert armchair([*words, "--calibrate", "temperature"]) == 2
    assert "scores have their own unit" in capsys.readouterr().err
    assert armchair([*words, "--optimise.early-stop", "accuracy"]) == 2
    assert "no accuracy to stop by" in capsys.readouterr().err


class Rater:
    """Names the judge of a draw; the answers are put into the store directly."""

    name, prompt_version, paid, threads = "rater", "1", False, 1
    settings: ClassVar[dict[str, object]] = {}


def rate(store: LabelStore, frames: Frames, labels: str, kind: Kind, count: int) -> None:
    """Progress from 1 to 5 by where the square is."""
    drawn = draw_pairs(store, labels, frames, Rater(), DrawConfig(pairs=count), kind=kind)  # type: ignore
    who = JudgeIdentity("rater", "1", {})
    answers = []
    for pair in drawn:
        value = float(1 + np.round(4 * frames.truth[frames.row(pair.first)] / 10))
        answers.append(StoredAnswer(pair.key, ("x", ""), who, 0, Verdict(Outcome.RATED, value=value)))
    store.add_answers(answers)


def test_a_label_set_of_two_questions_is_nothing_to_fit(
    dataset: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = load_frames(dataset, "front")
    with LabelStore(dataset.path / "labels.sqlite") as store:
        rate(store, frames, "mixed", Kind.PROGRESS, 5)
        rate(store, frames, "mixed", Kind.SCORE, 5)
    assert armchair(["fit", str(dataset.path)]) == 2
    assert "mixes the questions progress, score" in capsys.readouterr().err


def test_a_temperature_scales_rewards_and_leaves_what_a_policy_gets(
    dataset: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(dataset.path)
    assert armchair(["label", path, "--pairs", "150"]) == 0
    words = ["fit", path, *SMALL, "--held-out", "0.4", "--optimise.epochs", "3"]
    assert armchair(words) == 0
    plain = load_model(dataset.path / "rewards" / "scripted", CPU)
    assert armchair([*words, "--calibrate", "temperature"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "expected calibration error" in said
    assert "cross-fitted" in said
    scaled = load_model(dataset.path / "rewards" / "scripted", CPU)
    assert scaled.temperature == scaled.card["calibration_scaled"]["temperature"] != 1
    images = load_frames(dataset, "front").images
    np.testing.assert_allclose(
        scaled.rewards(images) * scaled.temperature, plain.rewards(images), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(np.array(scaled.scale) * scaled.temperature, plain.scale, rtol=1e-4)


def test_an_ensemble_is_the_mean_of_networks_that_were_fitted_alone(frames: Frames) -> None:
    """Members share nothing: each equals a fit of its own network with its own shuffling."""
    rng = np.random.default_rng(0)
    first, second = rng.choice(frames.judged, size=(2, 30))
    label = (frames.truth[second] > frames.truth[first]).astype(np.float32)
    pairs = LabelledPairs(first, second, label, np.arange(30) % 5 == 0)
    network = NetworkConfig(kernels=(5, 3), channels=(8, 8), strides=(3, 2), members=3)
    config = RewardConfig(
        network=network, optimise=OptimiseConfig(epochs=2, batch_pairs=8, early_stop="none", precision="fp32")
    )
    together = fit_reward(frames, pairs, config, CPU, stream="front")
    alone = fit_reward(
        frames, pairs, replace(config, network=replace(network, members=1)), CPU, stream="front"
    )
    assert isinstance(alone.model.ensemble, RewardEnsemble)
    np.testing.assert_array_equal(together.rewards[0], alone.rewards[0])
