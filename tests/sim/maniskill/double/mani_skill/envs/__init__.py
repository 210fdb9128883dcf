"""A point that is pushed to a goal."""

import numpy as np
from mani_skill.utils.registration import REGISTERED_ENVS, EnvSpec
from sapien.render import RenderMaterial


class Tensor:
    """A torch tensor, as far as it is taken out."""

    def __init__(self, value):
        self.value = np.asarray(value)

    def detach(self):
        """Itself."""
        return self

    def cpu(self):
        """Itself."""
        return self

    def numpy(self):
        """The array."""
        return self.value


class Box:
    """gymnasium's Box."""

    def __init__(self, low, high):
        self.low, self.high, self.shape = np.asarray(low), np.asarray(high), np.shape(low)


class PushPoint:
    """BaseEnv with one environment: everything is a batch of one, and success terminates."""

    control_freq = 20

    def __init__(self, obs_mode, num_envs, sim_backend, render_backend, render_mode, control_mode="delta"):
        assert (obs_mode, num_envs, sim_backend) == ("state_dict", 1, "physx_cpu")
        assert (render_mode is None) == (render_backend == "none")
        RenderMaterial(base_color=[1, 0, 0, 1]).roughness = 0.5
        bound = np.ones(3, np.float32) * (np.inf if control_mode == "free" else 1.0)
        self.action_space = Box(-bound, bound) if control_mode != "both arms" else {"left": 1, "right": 2}
        self._human_render_cameras = {"render_camera": None} if render_mode else {}

    def reset(self, seed=None, options=None):
        """Observation and info."""
        rng = np.random.RandomState(seed)
        self.at = rng.uniform(-0.1, 0.1, (1, 2))
        self.goal = self.at - rng.uniform(0.4, 0.6, (1, 2))
        self.velocity = np.zeros((1, 2))
        return self._seen(), {"reconfigure": True}

    def step(self, action):
        """Five values; truncated is never set without ManiSkill's own limit."""
        assert action.shape == (3,)
        assert action.dtype == np.float32
        self.velocity = 0.5 * self.velocity + 0.05 * np.clip(action[None, :2], -1, 1)
        self.at = self.at + self.velocity
        distance = np.linalg.norm(self.at - self.goal, axis=1)
        success = Tensor(distance < 0.02)
        info = {"elapsed_steps": Tensor(np.array([1], np.int32)), "success": success}
        return self._seen(), Tensor(1.0 - np.tanh(5 * distance)), success, Tensor(np.array([False])), info

    def render_rgb_array(self, camera_name=None):
        """(1, 64, 64, 3)."""
        picture = np.zeros((1, 64, 64, 3), np.uint8)
        x, y = (32 + 100 * self.at[0]).astype(int).clip(4, 60)
        picture[0, y - 4 : y + 4, x - 4 : x + 4] = (255, 60, 60)
        return Tensor(picture)

    def _seen(self):
        near = Tensor(np.linalg.norm(self.at - self.goal, axis=1) < 0.02)
        agent = {"qpos": Tensor(np.float32(self.at)), "qvel": Tensor(np.float32(self.velocity))}
        return {"agent": agent, "extra": {"is_near": near, "goal_pos": Tensor(np.float32(self.goal))}}


REGISTERED_ENVS["PushPoint-v1"] = EnvSpec("PushPoint-v1", PushPoint, 50)
REGISTERED_ENVS["PickYCB-v1"] = EnvSpec("PickYCB-v1", PushPoint, 50, ("ycb",))
