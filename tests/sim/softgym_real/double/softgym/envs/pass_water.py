"""PassWater: a glass that is pushed along x; its `set_state` moves the water on by five steps."""

import numpy as np
import pyflex
from gym.spaces import Box
from softgym.envs.flex_env import FlexEnv


class PassWater1DEnv(FlexEnv):
    """One number, dx."""

    def __init__(
        self, observation_mode, action_mode, cached_states_path="pass_water_init_states.pkl", **kwargs
    ):
        assert observation_mode in ["cam_rgb", "point_cloud", "key_point"]
        self.observation_mode, self.action_mode = observation_mode, action_mode
        kwargs.pop("render_mode")
        super().__init__(**kwargs)
        self.get_cached_configs_and_states(cached_states_path, self.num_variations)
        length = {"key_point": 7, "point_cloud": 13 * 13 * 13 * 4 * 3}.get(observation_mode)
        if length is None:
            shape = (self.camera_height, self.camera_width, 3)
            self.observation_space = Box(low=-np.inf, high=np.inf, shape=shape, dtype=np.float32)
        else:
            self.particle_obs_dim, bound = length, np.array([np.inf] * length)
            self.observation_space = Box(low=-bound, high=bound, dtype=np.float32)
        self.action_space = Box(np.array([-0.011]), np.array([0.011]), dtype=np.float32)

    def get_default_config(self):
        """A small glass."""
        return {
            "fluid": {"dim_x": 4, "dim_y": 14, "dim_z": 4},
            "height": 0.2,
            "camera_name": "default_camera",
        }

    def generate_env_variation(self, num_variations=5, **kwargs):
        """Glasses of several widths."""
        configs, states = [], []
        for k in range(num_variations):
            config = self.get_default_config()
            config["fluid"]["dim_x"] = 4 + k % 10
            self.set_scene(config)
            configs.append(config)
            states.append(self.get_state())
        return configs, states

    def set_scene(self, config, states=None):
        """Water in five walls."""
        names = ("default_camera", "left_side")
        for name, at in zip(names, ([0.64, 1.8, 0.85], [-1.0, 0.2, 0.0])):
            sides = {"width": self.camera_width, "height": self.camera_height}
            self.camera_params[name] = dict(sides, pos=np.array(at), angle=np.array([0, -1.1, 0]))
        fluid = config["fluid"]
        grid = [fluid["dim_x"], fluid["dim_y"], fluid["dim_z"]]
        pyflex.set_scene(1, np.array([0.03, 0.5, 0, 0, 0, 0, 0, 0, 0, 0, 0, *grid]), 0)
        self.update_camera("default_camera")
        for _ in range(5):
            pyflex.add_box(np.ones(3), np.zeros(3), np.array([0, 0, 0, 1]))
        self.glass_x, self.glass_states = 0.0, pyflex.get_shape_states().reshape(-1, 14)
        self.glass_params = {
            "border": 0.045,
            "height": config["height"],
            "glass_dis_x": 0.015 * (grid[0] + 4),
        }
        if states is not None:
            self.set_state(states)

    def get_state(self):
        """No phases and no cameras, but a dictionary of the glass."""
        return {
            "particle_pos": pyflex.get_positions(),
            "particle_vel": pyflex.get_velocities(),
            "shape_pos": pyflex.get_shape_states(),
            "glass_x": self.glass_x,
            "glass_states": self.glass_states,
            "glass_params": self.glass_params,
            "config_id": self.current_config_id,
        }

    def set_state(self, state_dic):
        """Put it back, and let it settle."""
        self.glass_params = state_dic["glass_params"]
        pyflex.set_positions(state_dic["particle_pos"])
        pyflex.set_velocities(state_dic["particle_vel"])
        pyflex.set_shape_states(state_dic["shape_pos"])
        self.glass_x, self.glass_states = state_dic["glass_x"], state_dic["glass_states"]
        for _ in range(5):
            pyflex.step()

    def _reset(self):
        self.inner_step, self.performance_init = 0, None
        self.performance_init = self._get_info()["performance"]
        pyflex.step()
        return self._get_obs()

    def _step(self, action):
        x = self.glass_x + np.clip(action[0], self.action_space.low[0], self.action_space.high[0])
        states = self.glass_states.copy()
        states[:, 3:6], states[:, 0] = self.glass_states[:, :3], x
        self.glass_states, self.glass_x = states, np.clip(x, -0.25, 1.4)
        pyflex.set_shape_states(states)
        pyflex.step()
        self.inner_step += 1

    def _get_obs(self):
        if self.observation_mode == "cam_rgb":
            return self.get_image(self.camera_width, self.camera_height)
        p = pyflex.get_positions().reshape(-1, 4)[:, :3]
        if self.observation_mode == "point_cloud":
            points = np.zeros(self.particle_obs_dim)
            points[: p.size] = p.ravel()
            return points
        glass = self.glass_params
        return np.array([self.glass_x, glass["glass_dis_x"], 0.12, glass["height"], p[:, 1].max(), 1.0, 0.0])

    def compute_reward(self, obs=None, action=None, set_prev_reward=False):
        """Nothing is ever spilled here."""
        return -1.0 * np.abs(1.2 - self.glass_x)

    def _get_info(self):
        performance = self.compute_reward()
        first = performance if self.performance_init is None else self.performance_init
        return {
            "performance": performance,
            "normalized_performance": (performance - first) / (0 - first),
            "distance_to_target": np.abs(1.2 - self.glass_x),
            "out_water": 0.0,
        }
