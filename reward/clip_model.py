"""CLIP models of open_clip: found by `arch/tag` or in a local file, with the numbers they were trained with.

Weights are read without running code: safetensors, or torch files with weights_only. Where a tag was trained
with QuickGELU (OpenAI's), the model is built with it; open_clip 3 only warns, and gives other numbers.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import pickle
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from numpy.typing import NDArray

from episodes.errors import ConfigError, MachineError, did_you_mean

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
SCHEMES = ("local-dir:", "hf-hub:")


@dataclass(frozen=True)
class ClipModelConfig:
    """Which CLIP model, and where its weights are."""

    model: str = "ViT-B-32/laion2b_s34b_b79k"
    """open_clip's ARCH/TAG; ARCH alone with --checkpoint; or local-dir:FOLDER with open_clip_config.json and
    weights."""
    checkpoint: Path | None = None
    """File with the weights, .safetensors or a torch file of tensors. A tag beside it still says how the
    model was trained: activation, mean, std."""
    cache_dir: Path | None = None
    """Where open_clip keeps what it downloads; its own place when left out."""


@dataclass(frozen=True, eq=False)
class ClipModel:
    """A model on the CPU in fp32, as loaded."""

    name: str
    module: torch.nn.Module
    """Has `visual`, `encode_text` and `encode_image`."""
    tokenizer: Any
    """From texts to (n, context) token numbers."""
    preprocess: dict[str, Any]
    """Its own picture rule: size, mean, std, interpolation, resize_mode."""
    digest: str
    """sha256 over layers and weights."""

    def encode_text(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings (n, d) of texts, in fp32, not normalised."""
        with torch.inference_mode():
            found: torch.Tensor = self.module.encode_text(self.tokenizer(list(prompts)))
        return found.float().numpy()


def load_clip(config: ClipModelConfig) -> ClipModel:
    """Load a model with its weights.

    Raises:
        ConfigError: no such architecture, tag or file, or weights of another model.
        MachineError: the weights cannot be downloaded.
    """
    if config.model.startswith(SCHEMES):
        if config.checkpoint is not None:
            raise ConfigError(
                f"clip.checkpoint {config.checkpoint}: {config.model} brings its own weights; give one of "
                f"both."
            )
        return _from_scheme(config)
    arch, tag, found = _named(config)
    if config.checkpoint is not None:
        weights = _local_file(config.checkpoint)
    elif tag:
        weights = tag
    else:
        raise ConfigError(
            f"clip.model {config.model!r}: weights are missing. Write {arch}/TAG with one of "
            f"{', '.join(_tags(arch))}, or give --clip.checkpoint FILE."
        )
    own = {key: found[key] for key in ("mean", "std", "interpolation", "resize_mode") if found.get(key)}
    module = _build(
        config,
        arch,
        pretrained=weights,
        force_quick_gelu=bool(found.get("quick_gelu")),
        force_preprocess_cfg=own,
    )
    return _finish(module, arch if config.checkpoint else f"{arch}/{tag}", _tokenizer(arch, config))


def random_clip(arch: str, seed: int) -> ClipModel:
    """An architecture with random weights: as fast as the trained one, and as good as none."""
    import open_clip

    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        module = open_clip.create_model(arch, pretrained=None, pretrained_text=False)
    return _finish(module, f"{arch}/random-{seed}", _tokenizer(arch, ClipModelConfig(model=arch)))


def _named(config: ClipModelConfig) -> tuple[str, str, dict[str, Any]]:
    """Architecture, tag ("" for none), and what open_clip knows of how the tag was trained."""
    import open_clip

    arch, _, tag = config.model.partition("/")
    known = open_clip.list_models()
    if arch not in known:
        raise ConfigError(
            f"clip.model {config.model!r}: open_clip has no architecture {arch!r}; {_near(arch, known)} A "
            "file of weights goes into --clip.checkpoint."
        )
    if not tag:
        return arch, "", {}
    found = open_clip.get_pretrained_cfg(arch, tag)
    if not found:
        raise ConfigError(
            f"clip.model {config.model!r}: open_clip has no weights {tag!r} for {arch}; "
            f"{_near(tag, _tags(arch))}"
        )
    return arch, tag, dict(found)


def _near(word: str, known: Sequence[str]) -> str:
    """`did_you_mean`, blind to case; the nearest few where all would be a page."""
    folded = {name.lower(): name for name in known}
    if word.lower() in folded:
        return f"did you mean {folded[word.lower()]!r}?"
    return did_you_mean(word, known)


def _tags(arch: str) -> list[str]:
    import open_clip

    return list(open_clip.list_pretrained_tags_by_model(arch))


def _local_file(path: Path) -> str:
    if path.suffix not in SUFFIXES:
        raise ConfigError(
            f"clip.checkpoint {path}: a file of weights ends in {', '.join(SUFFIXES)}; others may hold code "
            "and are not opened."
        )
    if not path.is_file():
        raise ConfigError(f"clip.checkpoint {path}: there is no such file.")
    return str(path.resolve())


def _from_scheme(config: ClipModelConfig) -> ClipModel:
    scheme, _, place = config.model.partition(":")
    if scheme == "local-dir":
        folder = Path(place)
        if not (folder / "open_clip_config.json").is_file():
            raise ConfigError(f"clip.model {config.model}: {folder / 'open_clip_config.json'} is missing.")
        if not any(found.suffix in SUFFIXES for found in folder.iterdir()):
            raise ConfigError(
                f"clip.model {config.model}: {folder} holds no weights ({', '.join(SUFFIXES)})."
            )
    module = _build(config, config.model, pretrained=None, require_pretrained=True)
    return _finish(module, config.model, _tokenizer(config.model, config))


def _build(config: ClipModelConfig, name: str, **options: Any) -> torch.nn.Module:
    import open_clip

    try:
        with quiet():
            built: torch.nn.Module = open_clip.create_model(
                name,
                cache_dir=None if config.cache_dir is None else str(config.cache_dir),
                weights_only=True,
                **options,
            )
    except (
        RuntimeError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        StopIteration,
        pickle.UnpicklingError,
        safetensors.SafetensorError,
    ) as error:
        raise _explained(config, error) from error
    return built


def _explained(config: ClipModelConfig, error: Exception) -> ConfigError | MachineError:
    text = " ".join(str(error).split())
    shown = text if len(text) < 400 else f"{text[:400]} …"
    if config.checkpoint is None and not config.model.startswith("local-dir:"):
        return MachineError(
            f"clip.model {config.model}: the weights could not be had ({shown}). Without a network, bring "
            f"the "
            "file and give --clip.checkpoint FILE beside --clip.model."
        )
    where = config.checkpoint or config.model
    if "TorchScript" in text:
        return ConfigError(
            f"clip.checkpoint {where}: a TorchScript archive holds code and is not opened. Save its tensors: "
            "safetensors.torch.save_file(torch.jit.load(FILE).state_dict(), 'FILE.safetensors')."
        )
    return ConfigError(
        f"clip.checkpoint {where}: cannot be loaded into {config.model} ({shown}). It must hold the tensors "
        f"of "
        "this architecture and nothing but tensors."
    )


def _tokenizer(name: str, config: ClipModelConfig) -> Any:
    import open_clip

    try:
        with quiet():
            return open_clip.get_tokenizer(
                name, cache_dir=None if config.cache_dir is None else str(config.cache_dir)
            )
    except (OSError, RuntimeError, ValueError) as error:
        raise MachineError(
            f"clip.model {name}: its tokenizer could not be had ({error}). Take a model with CLIP's own "
            "tokenizer, or a local-dir: folder with the tokenizer's files."
        ) from error


def _finish(module: torch.nn.Module, name: str, tokenizer: Any) -> ClipModel:
    module.eval().requires_grad_(False)
    visual: Any = module.visual
    return ClipModel(name, module, tokenizer, dict(visual.preprocess_cfg), weights_digest(module))


def weights_digest(module: torch.nn.Module) -> str:
    """sha256 over a module's layers (activations are no weights) and over names, shapes and bytes of all that
    it remembers."""
    digest = hashlib.sha256(str(module).encode())
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype};".encode())
        flat = value.detach().cpu().contiguous().view(-1)
        digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    return digest.hexdigest()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """open_clip and torch say through the root logger and as warnings what is raised or meant here."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
