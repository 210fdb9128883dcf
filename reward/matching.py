"""Image-text matching by BLIP-2 as a labeller of `armchair relabel`: a baseline of Offline RL-VLM-F.

The model is read from a local folder as `save_pretrained` writes it, through transformers: `Blip2ForImage-
TextRetrieval` (Li et al., arXiv 2301.12597) or BLIP's `BlipForImageTextRetrieval`. The contrastive score is
the best cosine similarity between the text and the picture's query tokens, the matching score the
probability that text and picture belong together. Offline RL-VLM-F's reward is 2·score − 1 with the
contrastive score.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from PIL import Image

from episodes.dataset import Dataset
from episodes.errors import ConfigError
from reward.clip_labeller import feature_cache
from reward.clip_model import weights_digest
from reward.embeddings import embed
from reward.embeddings_open_clip import Precision, pick_devices, pick_precision
from reward.frames import Frames
from reward.labellers import Rewarded

Head = Literal["contrastive", "matching"]
CLASSES = {"blip-2": "Blip2ForImageTextRetrieval", "blip": "BlipForImageTextRetrieval"}


@dataclass(frozen=True)
class ScoringConfig:
    """How pictures go through the model."""

    precision: Precision = "auto"
    """auto: fp16 on a GPU; bf16 on a CPU that has instructions for it, else fp32."""
    devices: tuple[str, ...] = ("auto",)
    """auto: every GPU, or the CPU; else names such as cuda:0."""
    batch: int = 16
    """Pictures that a device gets at once."""
    cache: bool = True
    """Keep scores in DATASET/.cache/embeddings.sqlite."""

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ConfigError(f"matching.batch {self.batch}: at least 1 picture.")


@dataclass(frozen=True)
class MatchingConfig:
    """Rewards from BLIP-2: how well a frame matches a text."""

    folder: Path | None = None
    """Folder with config.json, weights in safetensors, and the processor's files."""
    targets: tuple[str, ...] = ()
    """What a frame shows when the task is done; the scores of several are averaged."""
    head: Head = "contrastive"
    """contrastive: cosine similarity, as Offline RL-VLM-F. matching: the probability that text and picture
    belong together."""
    doubled: bool = True
    """2·score − 1, as Offline RL-VLM-F."""
    how: Annotated[ScoringConfig, tyro.conf.arg(name="")] = field(default_factory=ScoringConfig)
    """How pictures go through it."""


class Matcher:
    """A model on one device; its features of a picture are the scores of the texts."""

    def __init__(
        self,
        config: MatchingConfig,
        model: Any,
        processor: Any,
        *,
        digest: str,
        device: torch.device,
        precision: Literal["fp32", "bf16", "fp16"],
    ) -> None:
        """`model` is taken over: moved to `device` and cast."""
        self._dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self._model = model.to(device=device, dtype=self._dtype).eval()
        self._processor, self._device, self._head = processor, device, config.head
        self._texts = list(config.targets)
        self._identity = (
            f"{model.config.model_type} {digest} {config.head} {precision} {json.dumps(self._texts)}"
        )

    @property
    def identity(self) -> str:
        """Model, sha256 of its weights, head, precision and texts."""
        return self._identity

    @property
    def dim(self) -> int:
        """Number of texts."""
        return len(self._texts)

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores (n, texts) of RGB pictures (n, height, width, 3)."""
        pictures = [Image.fromarray(image) for image in images]
        columns = []
        with torch.inference_mode():
            for text in self._texts:
                given = self._processor(
                    images=pictures, text=[text] * len(pictures), return_tensors="pt", padding=True
                ).to(self._device)
                given["pixel_values"] = given["pixel_values"].to(self._dtype)
                columns.append(self._scores(given))
        return torch.stack(columns, dim=1).float().cpu().numpy()

    def _scores(self, given: Any) -> torch.Tensor:
        """(n,) scores of one text for n pictures; the model pairs all texts with all pictures."""
        matching = self._head == "matching"
        if self._model.config.model_type == "blip":
            found = self._model(**given, use_itm_head=matching).itm_score
        else:
            found = self._model(**given, use_image_text_matching_head=matching).logits_per_image
        if matching:
            return found.float().softmax(dim=-1)[:, 1]
        # The same text in every column.
        return found.float()[:, 0]


def matching_rewards(
    dataset: Dataset,
    frames: Frames,
    config: MatchingConfig,
    progress: Callable[[int, int], None] | None = None,
) -> Rewarded:
    """Scores of all frames that belong to a transition.

    Raises:
        ConfigError: no folder, no target, or a folder with another model.
    """
    if not config.targets:
        raise ConfigError("matching.targets: describe what a frame shows when the task is done.")
    matchers = load_matchers(config)
    with feature_cache(dataset, config.how.cache) as cache:
        scores = embed(
            frames.images,
            matchers,
            batch=config.how.batch,
            cache=cache,
            rows=frames.judged,
            progress=progress,
        )
    mean = scores.mean(axis=1)
    basis: dict[str, object] = {"model": matchers[0].identity, "doubled": config.doubled}
    return Rewarded(frames.of_judged(2 * mean - 1 if config.doubled else mean), basis)


def load_matchers(config: MatchingConfig) -> Sequence[Matcher]:
    """The model once per device, read from its folder alone: nothing is downloaded, no code in it is run.

    Raises:
        ConfigError: no folder, or no image-text retrieval model in it.
    """
    folder = config.folder
    if folder is None or not (folder / "config.json").is_file():
        raise ConfigError(
            f"matching.folder {folder}: give a folder with config.json and weights, such as a copy of "
            "Salesforce/blip2-itm-vit-g."
        )
    try:
        kind = json.loads((folder / "config.json").read_text()).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(f"matching.folder {folder}: config.json cannot be read ({error}).") from error
    if kind not in CLASSES:
        raise ConfigError(
            f"matching.folder {folder}: model_type {kind!r}; image-text retrieval needs one of "
            f"{', '.join(CLASSES)}."
        )
    import transformers

    devices = pick_devices(config.how.devices)
    precision = pick_precision(config.how.precision, devices)
    matchers = []
    digest = ""
    for device in devices:
        try:
            model = getattr(transformers, CLASSES[kind]).from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=torch.float32,
            )
            processor = transformers.AutoProcessor.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ConfigError(
                f"matching.folder {folder}: transformers cannot load it ({error!s:.300}). It needs weights "
                f"in "
                "safetensors and the processor's files."
            ) from error
        digest = digest or weights_digest(model)
        matchers.append(Matcher(config, model, processor, digest=digest, device=device, precision=precision))
    return tuple(matchers)
