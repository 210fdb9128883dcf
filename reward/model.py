"""A fitted reward model on disk: `model.safetensors` (weights) and `reward.json` (everything else)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from episodes.errors import ConfigError, DatasetError
from reward.networks import NetworkConfig
from reward.optimise import precision_for
from reward.preference import Precision, RewardEnsemble, penultimate, predict
from reward.regions import Box
from reward.shaping import ShapingConfig
from reward.stored import rebuild

SCHEMA = "armchair/reward/1"
WEIGHTS = "model.safetensors"
CARD = "reward.json"


@dataclass(frozen=True, eq=False)
class RewardModel:
    """A fitted ensemble with what is needed to give rewards to frames."""

    ensemble: RewardEnsemble
    stream: str
    """Image stream that it judges."""
    frame_shape: tuple[int, int]
    """(height, width) of uncropped frames."""
    scale: tuple[float, float]
    """Rewards r̂ that shaping turns into 0 and 1, quantiles over the frames that it was fitted on."""
    shaping: ShapingConfig
    precision: Literal["auto", "bf16", "fp32"]
    """Arithmetic of convolutions."""
    card: Mapping[str, Any]
    """What is remembered of the fit: labels, settings, figures."""

    input_identity: str = ""
    """What the entries of vectors mean that the networks look at; empty for pictures."""
    encoder: Mapping[str, Any] | None = None
    """The frozen encoder whose features the networks look at, as JSON (`ImageEncoderConfig`)."""
    temperature: float = 1.0
    """Rewards are divided by it, so that their differences are log-odds of the judge's answers."""

    def rewards(
        self, inputs: NDArray[np.generic], progress: Callable[[int, int], None] | None = None
    ) -> NDArray[np.float32]:
        """Rewards r̂ before shaping, of uncropped frames (n, height, width, 3) or of vectors (n, d), whichever
        the networks look at (`reward.inputs`) → (members, n).

        Raises:
            DatasetError: inputs of another size.
            LabelError: a reward is not finite.
        """
        ensemble = self.ensemble
        found = predict(ensemble, self._fitting(inputs), precision=self._precision, progress=progress)
        return found if self.temperature == 1 else found / np.float32(self.temperature)

    def features(self, inputs: NDArray[np.generic], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Penultimate features of `rows` of the inputs, members side by side → (len(rows), members · width).

        Raises:
            DatasetError: inputs of another size.
        """
        return penultimate(self.ensemble, self._fitting(inputs), precision=self._precision, rows=rows)

    @property
    def _precision(self) -> Precision:
        return precision_for(self.ensemble, self.precision)

    def _fitting(self, inputs: NDArray[np.generic]) -> NDArray[np.generic]:
        dim = self.ensemble.dim
        if dim is not None:
            if inputs.shape[1:] != (dim,):
                raise DatasetError(
                    f"the reward model was fitted on vectors of {dim} entries ({self.input_identity}), these "
                    f"have shape {inputs.shape[1:]}: fit one on this dataset."
                )
            return inputs
        if inputs.shape[1:3] != self.frame_shape or inputs.dtype != np.uint8:
            raise DatasetError(
                f"the reward model was fitted on frames of {self.frame_shape}, these are "
                f"{inputs.shape[1:3]} of {inputs.dtype}: fit one on this dataset."
            )
        return self.ensemble.box.crop(inputs)


def pick_device(name: str) -> torch.device:
    """ "auto", "cpu" or "cuda".

    Raises:
        ConfigError: another name, or no GPU where one is wanted.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise ConfigError(f"device {name!r}: auto, cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device 'cuda': torch sees no GPU on this machine; use auto or cpu.")
    return torch.device(name)


def save_model(folder: Path, model: RewardModel) -> None:
    """Write a reward model; the card is replaced last and names the weights' hash, so half a model is no
    model."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.ensemble.state_dict().items()}
    weights = save_tensors(tensors)
    _replace(folder / WEIGHTS, weights)
    card = {
        "schema": SCHEMA,
        "sha256": hashlib.sha256(weights).hexdigest(),
        "stream": model.stream,
        "frame_shape": list(model.frame_shape),
        "box": asdict(model.ensemble.box),
        "network": asdict(model.ensemble.config),
        "inputs": {"dim": model.ensemble.dim, "identity": model.input_identity},
        "encoder": model.encoder,
        "scale": list(model.scale),
        "temperature": model.temperature,
        "shaping": asdict(model.shaping),
        "precision": model.precision,
        "fit": dict(model.card),
    }
    _replace(folder / CARD, json.dumps(card, indent=1, default=str).encode())


def load_model(folder: Path, device: torch.device) -> RewardModel:
    """Read a reward model.

    Raises:
        DatasetError: there is none, or it is damaged.
    """
    try:
        card = json.loads((folder / CARD).read_text())
        weights = (folder / WEIGHTS).read_bytes()
    except FileNotFoundError as error:
        raise DatasetError(
            f"{error.filename}: no reward model here. Fit one: armchair fit DATASET"
        ) from error
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{folder / CARD}: the reward model cannot be read ({error}). Fit it again."
        ) from error
    try:
        if card["schema"] != SCHEMA:
            raise ValueError(f"schema {card['schema']!r} where {SCHEMA!r} belongs")
        if hashlib.sha256(weights).hexdigest() != card["sha256"]:
            raise ValueError(f"{WEIGHTS} does not have the hash that {CARD} gives")
        network = rebuild(NetworkConfig, card["network"])
        inputs = card.get("inputs", {"dim": None, "identity": ""})
        box = None if network.kind == "state-action" else Box(**card["box"])
        ensemble = RewardEnsemble(network, box, inputs["dim"])
        ensemble.load_state_dict(load_tensors(weights))
        return RewardModel(
            ensemble=ensemble.to(device),
            stream=str(card["stream"]),
            frame_shape=(int(card["frame_shape"][0]), int(card["frame_shape"][1])),
            scale=(float(card["scale"][0]), float(card["scale"][1])),
            shaping=ShapingConfig(**card["shaping"]),
            precision=card["precision"],
            card=card["fit"],
            input_identity=str(inputs["identity"]),
            encoder=card.get("encoder"),
            temperature=float(card.get("temperature", 1.0)),
        )
    except (KeyError, TypeError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        raise DatasetError(f"{folder}: the reward model is damaged ({error}). Fit it again.") from error


def model_hash(folder: Path) -> str:
    """sha256 of the weights of a saved model."""
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
