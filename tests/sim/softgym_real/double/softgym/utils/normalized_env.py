"""`normalize`: actions in [-1, 1], everything else handed on."""

import gym.spaces
import numpy as np


class NormalizedEnv:
    """No gym.Env, as in SoftGym."""

    def __init__(self, env, scale_reward=1.0, normalize_obs=False, normalize_reward=False, clip=True):
        self._wrapped_env = env
        self._obs_mean = np.zeros(env.observation_space.shape)

    def reset(self, **kwargs):
        """An observation alone."""
        return self._wrapped_env.reset(**kwargs)

    @property
    def action_space(self):
        """[-1, 1]."""
        ones = np.ones(self._wrapped_env.action_space.shape)
        return gym.spaces.Box(-1 * ones, ones)

    def step(self, action, **kwargs):
        """Four values."""
        low, high = self._wrapped_env.action_space.low, self._wrapped_env.action_space.high
        return self._wrapped_env.step(np.clip(low + (action + 1.0) * 0.5 * (high - low), low, high), **kwargs)

    def __getattr__(self, name):
        if name == "_wrapped_env":
            raise AttributeError(name)
        return getattr(self._wrapped_env, name)


normalize = NormalizedEnv
