"""The compiled part."""

from . import render

__all__ = ["render"]
