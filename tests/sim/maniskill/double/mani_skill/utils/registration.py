"""Tasks by name."""

import sys

REGISTERED_ENVS = {}


class EnvSpec:
    """How a task is made."""

    def __init__(self, uid, cls, max_episode_steps=None, assets=()):
        self.uid, self.cls, self.max_episode_steps, self._assets = uid, cls, max_episode_steps, assets

    def make(self, **kwargs):
        """ManiSkill asks on standard input before it downloads."""
        if self._assets:
            input("Would you like to download them now? [y/n]")
            sys.exit()
        return self.cls(**kwargs)
