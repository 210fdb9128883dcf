"""BLIP-2 as a judge of pictures, with the classes of transformers and random weights.

No published weights can be reached where these tests run, so what they show is that a folder as
`save_pretrained` writes it is read, and that the scores are the model's own; not how good the scores are.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from episodes.dataset import Dataset
from episodes.errors import ConfigError
from reward.frames import Frames
from reward.matching import MatchingConfig, ScoringConfig, load_matchers, matching_rewards

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "an", "open", "drawer", "a", "closed", ".")
HOW = ScoringConfig(precision="fp32", devices=("cpu",), batch=7)
TEXTS = ("an open drawer", "a drawer")


def saved(folder: Path, kind: str) -> Path:
    """A folder with a small model of random weights and its processor."""
    import transformers as hf

    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = hf.BertTokenizerFast(vocab={word: k for k, word in enumerate(WORDS)})
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    seeing = {**sizes, "image_size": 16, "patch_size": 8}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "blip-2":
            reading = {
                **sizes,
                "vocab_size": len(WORDS),
                "encoder_hidden_size": 16,
                "use_qformer_text_input": True,
            }
            config = hf.Blip2Config(
                vision_config=seeing,
                qformer_config=reading,
                text_config={
                    "model_type": "opt",
                    "vocab_size": 16,
                    "hidden_size": 8,
                    "ffn_dim": 8,
                    "num_hidden_layers": 1,
                    "num_attention_heads": 1,
                    "word_embed_proj_dim": 8,
                },
                num_query_tokens=4,
                image_text_hidden_size=12,
            )
            model = hf.Blip2ForImageTextRetrieval(config)
            processor = hf.Blip2Processor(hf.BlipImageProcessor(size={"height": 16, "width": 16}), tokenizer)
        else:
            config = hf.BlipConfig(
                text_config={
                    **sizes,
                    "vocab_size": len(WORDS),
                    "encoder_hidden_size": 16,
                    "bos_token_id": 2,
                    "sep_token_id": 3,
                    "pad_token_id": 0,
                    "eos_token_id": 3,
                },
                vision_config=seeing,
                image_text_hidden_size=12,
            )
            model = hf.BlipForImageTextRetrieval(config)
            processor = hf.BlipProcessor(hf.BlipImageProcessor(size={"height": 16, "width": 16}), tokenizer)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        # As they are born, query tokens are zeros and layers so weak that no picture shows in a score.
        if parameter.ndim >= 2:
            torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["blip-2", "blip"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("matching"), request.param)


@pytest.mark.parametrize("head", ["contrastive", "matching"])
def test_scores_are_the_models_own_one_picture_and_text_at_a_time(folder: Path, head: str) -> None:
    import transformers as hf

    images = np.random.default_rng(0).integers(0, 256, (5, 24, 30, 3), np.uint8)
    (matcher,) = load_matchers(MatchingConfig(folder, TEXTS, head, how=HOW))  # type: ignore[arg-type]
    found = matcher.encode(images)
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    blip2 = kind == "blip-2"
    model = (hf.Blip2ForImageTextRetrieval if blip2 else hf.BlipForImageTextRetrieval).from_pretrained(folder)
    processor = hf.AutoProcessor.from_pretrained(folder)
    wanted = np.zeros((5, 2))
    for row, column in np.ndindex(5, 2):
        given = processor(images=Image.fromarray(images[row]), text=TEXTS[column], return_tensors="pt")
        with torch.inference_mode():
            if blip2:
                out = model.eval()(**given, use_image_text_matching_head=head == "matching").logits_per_image
            else:
                out = model.eval()(**given, use_itm_head=head == "matching").itm_score
        wanted[row, column] = out.softmax(dim=1)[0, 1] if head == "matching" else out[0, 0]
    assert found == pytest.approx(wanted, abs=1e-5)
    assert np.abs(found - found[0]).max() > 1e-5


def test_the_reward_is_twice_the_mean_score_less_one(dataset: Dataset, frames: Frames, folder: Path) -> None:
    config = MatchingConfig(folder, TEXTS, how=HOW)
    (matcher,) = load_matchers(config)
    scores = matcher.encode(frames.images[frames.judged]).mean(axis=1)
    found = matching_rewards(dataset, frames, config)
    assert found.rewards[frames.judged] == pytest.approx(2 * scores - 1, abs=1e-5)
    plain = matching_rewards(dataset, frames, replace(config, doubled=False))
    assert plain.rewards[frames.judged] == pytest.approx(scores, abs=1e-5)
    assert plain.basis != found.basis


def test_a_folder_that_is_none_or_of_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="blip2-itm-vit-g"):
        load_matchers(MatchingConfig(tmp_path / "gone", TEXTS, how=HOW))
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ConfigError, match="model_type 'llama'"):
        load_matchers(MatchingConfig(tmp_path, TEXTS, how=HOW))
    (tmp_path / "config.json").write_text('{"model_type": "blip-2"}')
    with pytest.raises(ConfigError, match="weights in safetensors"):
        load_matchers(MatchingConfig(tmp_path, TEXTS, how=HOW))


def test_weights_that_may_hold_code_are_not_opened(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", "blip")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="weights in safetensors"):
        load_matchers(MatchingConfig(folder, TEXTS, how=HOW))


def test_without_a_text_there_is_no_reward(dataset: Dataset, frames: Frames, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"matching\.targets"):
        matching_rewards(dataset, frames, MatchingConfig(tmp_path))
