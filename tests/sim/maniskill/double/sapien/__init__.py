"""SAPIEN, as far as it starts and looks for a device that draws."""

from . import pysapien, render, wrapper

__version__ = "3.0.3"


class Device:
    """A device by its alias."""

    def __init__(self, alias):
        if alias == "cuda":
            raise RuntimeError('failed to find device "cuda"')
        self.alias = alias


__all__ = ["Device", "pysapien", "render", "wrapper"]
