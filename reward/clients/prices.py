"""What models cost, from `prices.yaml`."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import yaml

FILE = Path(__file__).resolve().parent / "prices.yaml"


@dataclass(frozen=True)
class Price:
    """US dollars per million tokens."""

    input: float
    output: float
    known: bool = True
    """False when the table has no such model and the dearest entry is assumed."""

    def cost(self, input_tokens: int, output_tokens: int) -> float:
        """US dollars."""
        return (self.input * input_tokens + self.output * output_tokens) / 1e6


@functools.cache
def price_of(model: str) -> Price:
    """Price of `model`; of an unknown one that of the dearest entry, so that a money budget holds."""
    table = {str(name): Price(**entry) for name, entry in yaml.safe_load(FILE.read_bytes()).items()}
    matching = [name for name in table if model.removeprefix("models/").startswith(name)]
    if matching:
        return table[max(matching, key=len)]
    return Price(max(p.input for p in table.values()), max(p.output for p in table.values()), known=False)
