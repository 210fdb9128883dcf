"""An ONNX file as an image encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from episodes.errors import ConfigError, MachineError, did_you_mean
from reward.clip_pictures import PictureRule
from reward.embeddings_open_clip import EncodingConfig

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class OnnxConfig:
    """An ONNX graph with one picture input."""

    model: Path | None = None
    """The .onnx file; data files that it names must lie beside it."""
    size: int = 224
    """Pixels a side where the graph leaves them open."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Per channel, of pixels in [0, 1]; ImageNet's. CLIP's are 0.48145466 0.4578275 0.40821073."""
    std: tuple[float, float, float] = IMAGENET_STD
    """Per channel; CLIP's are 0.26862954 0.26130258 0.27577711."""
    output: str = ""
    """Which output holds the features; the first when left out. One with two more dimensions is averaged over
    them, one with one more (tokens) gives its first."""


class OnnxEncoder:
    """A graph in onnxruntime on the CPU, or on a GPU where that build of onnxruntime is installed.

    Inputs may be (n, 3, h, w) or (n, h, w, 3), float32 (normalised here) or uint8 (pixels as they are).
    """

    def __init__(self, config: OnnxConfig, how: EncodingConfig) -> None:
        """Open the graph.

        Raises:
            ConfigError: no such file, no image encoder, or a graph that reaches out of its folder.
        """
        import onnxruntime

        if config.model is None or not config.model.is_file():
            raise ConfigError(f"onnx.model {config.model}: give an .onnx file that exists.")
        outside = [name for name in external_files(config.model) if not _inside(config.model.parent, name)]
        if outside:
            raise ConfigError(f"onnx.model {config.model}: names data outside its folder ({outside[0]}).")
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(config.model), providers=onnxruntime.get_available_providers()
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise ConfigError(
                f"onnx.model {config.model}: onnxruntime refuses it ({error!s:.300})."
            ) from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4:
            raise ConfigError(
                f"onnx.model {config.model}: has inputs {[(i.name, i.shape) for i in inputs]}; an image "
                f"encoder "
                "has one, (n, 3, height, width) or (n, height, width, 3)."
            )
        self._input = inputs[0]
        names = [output.name for output in outputs]
        self._output = config.output or names[0]
        if self._output not in names:
            raise ConfigError(f"onnx.output {config.output!r}: {did_you_mean(config.output, names)}")
        self._channels_last = self._input.shape[3] == 3
        sides = self._input.shape[1:3] if self._channels_last else self._input.shape[2:4]
        height, width = (side if isinstance(side, int) else config.size for side in sides)
        fixed = self._input.shape[0]
        self._batch = fixed if isinstance(fixed, int) else None
        self._raw = self._input.type == "tensor(uint8)"
        if not self._raw and self._input.type not in ("tensor(float)", "tensor(float16)"):
            raise ConfigError(
                f"onnx.model {config.model}: takes {self._input.type}; float, float16 or uint8."
            )
        self._wide = np.float16 if self._input.type == "tensor(float16)" else np.float32
        plain = (0.0, 0.0, 0.0), (1 / 255,) * 3
        mean, std = plain if self._raw else (config.mean, config.std)
        self.rule = PictureRule((height, width), mean, std, how.resize, how.antialias)
        self._dim = self._run(np.zeros((1, height, width, 3), np.uint8)).shape[1]
        self._identity = f"onnx {_digest(config.model)} {self._output} {self.rule.identity()}"

    @property
    def identity(self) -> str:
        """sha256 of graph and data, output and picture rule."""
        return self._identity

    @property
    def dim(self) -> int:
        """Length of a feature."""
        return self._dim

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features (n, dim), not normalised, of RGB pictures (n, height, width, 3)."""
        if self._batch is None:
            return self._run(images)
        parts = []
        for start in range(0, len(images), self._batch):
            part = images[start : start + self._batch]
            padding = np.repeat(part[-1:], self._batch - len(part), axis=0)
            parts.append(self._run(np.concatenate([part, padding]))[: len(part)])
        return np.concatenate(parts)

    def _run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self._batch is not None and len(images) != self._batch:
            images = np.repeat(images, self._batch, axis=0)
        pictures = self.rule.tensors(images, torch.device("cpu")).numpy()
        fed = pictures.clip(0, 255).round().astype(np.uint8) if self._raw else pictures.astype(self._wide)
        if self._channels_last:
            fed = np.ascontiguousarray(fed.transpose(0, 2, 3, 1))
        try:
            found = self._session.run([self._output], {self._input.name: fed})[0]
        except RuntimeError as error:
            raise MachineError(f"onnxruntime failed on pictures of {fed.shape} ({error!s:.300}).") from error
        if found.ndim == 4:
            # Which axis holds the channels is not written in a graph; it is the one of the input.
            found = found.mean(axis=(1, 2) if self._channels_last else (2, 3))
        elif found.ndim == 3:
            found = found[:, 0]
        if found.ndim != 2 or not len(found) == len(images):
            raise ConfigError(f"onnx.output {self._output}: has shape {found.shape}, no feature per picture.")
        out: NDArray[np.float32] = found.astype(np.float32)
        return out


def external_files(path: Path) -> list[str]:
    """Data files that a graph names.

    Raises:
        ConfigError: not a graph.
    """
    import onnx

    try:
        # The checker parses in C++ and says what it cannot read; `load` raises protobuf's own errors.
        onnx.checker.check_model(str(path))
        model = onnx.load(str(path), load_external_data=False)
    except (onnx.checker.ValidationError, OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"onnx.model {path}: is no sound ONNX graph ({error!s:.300}).") from error
    return [
        entry.value
        for tensor in _tensors(model.graph)
        for entry in tensor.external_data
        if entry.key == "location"
    ]


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            for inner in (attribute.g, *attribute.graphs):
                if inner.ByteSize():
                    yield from _tensors(inner)


def _inside(folder: Path, name: str) -> bool:
    return (folder / name).resolve().is_relative_to(folder.resolve())


def _digest(path: Path) -> str:
    digest = hashlib.sha256(path.read_bytes())
    for name in sorted(set(external_files(path))):
        with (path.parent / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
