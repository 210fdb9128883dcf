"""Old gym, as far as SoftGym takes it: `reset` gives an observation, `step` four values."""

from . import spaces


class Env:
    """A base class without promises."""

    metadata = {}


__all__ = ["Env", "spaces"]
