"""The precision of hidden layers: bfloat16 where a training asks for it, float32 everywhere else.

Only what stands between the input and the last layer of a network is computed in bfloat16, forward and
backward. Weights, the last layer, losses, targets and Adam stay in float32: bfloat16 has 8 bits of mantissa,
and a step of Adam is smaller than what those can tell apart.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch
from torch import Tensor

Precision = Literal["fp32", "bf16"]


class _Hidden(threading.local):
    precision: Precision = "fp32"


_hidden = _Hidden()


@contextmanager
def hidden_layers_in(precision: Precision) -> Iterator[None]:
    """Networks that run inside, in this thread, have hidden layers of this precision. Gradients of what ran
    inside have it too, wherever they are taken."""
    before = _hidden.precision
    _hidden.precision = precision
    try:
        yield
    finally:
        _hidden.precision = before


def hidden_layer(device: torch.device) -> AbstractContextManager[object]:
    """Around the hidden layers of a network's forward, and nothing else.

    A wider autocast would reach the last layer's gradient: PyTorch casts in a backward pass that is started
    inside one.
    """
    if _hidden.precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


def exact(hidden: Tensor) -> Tensor:
    """What hidden layers gave, for the last layer and for losses: bfloat16 as float32, the rest as it is."""
    return hidden.float() if hidden.dtype == torch.bfloat16 else hidden
