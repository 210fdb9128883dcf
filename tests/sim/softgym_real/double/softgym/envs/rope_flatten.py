"""RopeFlatten, and RL-VLM-F's easier one."""

from copy import deepcopy

import numpy as np
import pyflex
from gym.spaces import Box
from softgym.action_space.action_space import Picker
from softgym.envs.flex_env import FlexEnv


class RopeFlattenEnv(FlexEnv):
    """Two pickers and a rope."""

    def __init__(
        self,
        cached_states_path="rope_flatten_init_states.pkl",
        observation_mode="cam_rgb",
        action_mode="picker",
        num_picker=2,
        horizon=75,
        render_mode="particle",
        picker_radius=0.02,
        **kwargs,
    ):
        super().__init__(**kwargs)
        assert observation_mode in ["point_cloud", "cam_rgb", "key_point"]
        assert action_mode in ["picker", "sawyer", "franka"]
        self.observation_mode, self.action_mode, self.num_picker = observation_mode, action_mode, num_picker
        self.action_tool = Picker(num_picker, picker_radius, 0.025, (-0.35, 0.0, -0.35), (0.35, 0.3, 0.35))
        self.action_space = self.action_tool.action_space
        length = {"key_point": 30, "point_cloud": 41 * 3}.get(observation_mode)
        if length is None:
            shape = (self.camera_height, self.camera_width, 3)
            self.observation_space = Box(low=-np.inf, high=np.inf, shape=shape, dtype=np.float32)
        else:
            self.particle_obs_dim = length
            bound = np.array([np.inf] * (length + 3 * num_picker))
            self.observation_space = Box(-bound, bound, dtype=np.float32)
        self.horizon = horizon
        self.get_cached_configs_and_states(cached_states_path, self.num_variations)

    def get_default_config(self):
        """A rope of 40 segments."""
        camera = {
            "pos": np.array([0, 0.85, 0]),
            "angle": np.array([0, -np.pi / 2, 0]),
            "width": self.camera_width,
            "height": self.camera_height,
        }
        return {
            "radius": 0.025,
            "segment": 40,
            "camera_name": "default_camera",
            "camera_params": {"default_camera": camera},
        }

    def generate_env_variation(self, num_variations=1, config=None, save_to_file=False, **kwargs):
        """Crumple the rope by moving one particle at random."""
        configs, states = [], []
        for i in range(num_variations):
            config = deepcopy(self.get_default_config())
            self.set_scene(config)
            for _ in range(30):
                p = pyflex.get_positions().reshape(-1, 4)
                p[np.random.randint(len(p)), :3] += np.random.random(3) * 0.04 - 0.02
                pyflex.set_positions(p)
                pyflex.step()
            print("config {}: {}".format(i, config["camera_params"]))
            configs.append(deepcopy(config))
            states.append(deepcopy(self.get_state()))
        return configs, states

    def set_scene(self, config, state=None):
        """Lay the rope."""
        camera = config["camera_params"][config["camera_name"]]
        start = [0.0, 0.0, 0.0, 0.9, 0.8, config["radius"], config["segment"], 0.5, 0.5]
        pyflex.set_scene(2, np.array([*start, *camera["pos"], *camera["angle"], 720, 720, 2]), 0)
        self.update_camera(config["camera_name"], camera)
        if state is not None:
            self.set_state(state)
        self.current_config = deepcopy(config)

    def _reset(self):
        segments = self.current_config["segment"]
        self.rope_length = segments * self.current_config["radius"] * 0.5
        self.key_point_indices = [0] + [i * ((segments - 1) // 8) for i in range(1, 9)] + [segments]
        self.reward_min, self.reward_range = -self.rope_length, self.rope_length
        self._place()
        return self._get_obs()

    def _place(self):
        p = pyflex.get_positions().reshape(-1, 4)
        middle = (p.min(axis=0) + p.max(axis=0)) / 2
        self.action_tool.reset([middle[0], 0.1, middle[2]])

    def _step(self, action):
        self.action_tool.step(action)
        pyflex.step()

    def _get_obs(self):
        if self.observation_mode == "cam_rgb":
            return self.get_image(self.camera_height, self.camera_width)
        p = pyflex.get_positions().reshape(-1, 4)[:, :3]
        if self.observation_mode == "key_point":
            p = p[self.key_point_indices]
        points = np.zeros(self.particle_obs_dim)
        points[: p.size] = p.ravel()
        return np.concatenate([points, pyflex.get_shape_states().reshape(-1, 14)[:, :3].flatten()])

    def _distance(self):
        p = pyflex.get_positions().reshape(-1, 4)
        return np.linalg.norm(p[0, :3] - p[-1, :3]).squeeze()

    def compute_reward(self, action=None, obs=None, set_prev_reward=False):
        """How far the ends are from a rope's length apart."""
        return -np.abs(self._distance() - self.rope_length)

    def _get_info(self):
        performance = self.compute_reward()
        return {
            "performance": performance,
            "normalized_performance": (performance - self.reward_min) / self.reward_range,
            "end_point_distance": self._distance(),
        }


class RopeFlattenEasyEnv(RopeFlattenEnv):
    """The pickers hold the ends; it says by itself whether it is done, and can hide its pickers."""

    def __init__(self, cached_states_path="rope_flatten_easy_1000_init_states.pkl", **kwargs):
        super().__init__(cached_states_path=cached_states_path, **kwargs)

    def _place(self):
        self.action_tool.reset([0, 0, 0])
        self.action_tool.hold([0, len(pyflex.get_positions()) // 4 - 1])

    def _step(self, action):
        action[3] = 1
        action[7] = 1
        super()._step(action)

    def compute_reward(self, action=None, obs=None, set_prev_reward=False):
        """The distance itself, up to 1.1 lengths."""
        return np.minimum(self._distance(), self.rope_length * 1.1)

    def _get_info(self):
        info = super()._get_info()
        info["success"] = 1 if info["performance"] >= 0.95 * self.rope_length else 0
        return info

    def render(self, mode="rgb_array", hide_picker=True):
        """RL-VLM-F's: without the pickers."""
        shapes = pyflex.get_shape_states().reshape(-1, 14)
        hidden = shapes.copy()
        hidden[:, [1, 4]] = 1e5
        pyflex.set_shape_states(hidden if hide_picker else shapes)
        img = super().render(mode)
        pyflex.set_shape_states(shapes)
        return img
