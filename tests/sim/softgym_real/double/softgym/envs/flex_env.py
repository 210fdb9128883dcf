"""FlexEnv: one scene, initial states from a pickle, and `done` at the horizon."""

import copy
import os
import os.path as osp
import pickle

import gym
import numpy as np
import pyflex


class FlexEnv(gym.Env):
    """The base of all tasks."""

    def __init__(
        self,
        device_id=-1,
        headless=False,
        render=True,
        horizon=100,
        camera_width=720,
        camera_height=720,
        num_variations=1,
        action_repeat=8,
        camera_name="default_camera",
        deterministic=True,
        use_cached_states=True,
        save_cached_states=True,
        **kwargs,
    ):
        self.camera_params, self.camera_width, self.camera_height = {}, camera_width, camera_height
        self.camera_name = camera_name
        pyflex.init(headless, render, camera_width, camera_height)
        self.horizon, self.time_step, self.action_repeat = horizon, 0, action_repeat
        self.recording, self.prev_reward = kwargs.get("recording", False), None
        self.deterministic = deterministic
        self.use_cached_states, self.save_cached_states = use_cached_states, save_cached_states
        self.current_config, self.current_config_id = self.get_default_config(), None
        self.cached_configs, self.cached_init_states = None, None
        self.num_variations = num_variations
        self.eval_flag = False
        self.version = 2 if "Robotics" in os.environ["PYFLEXROOT"] else 1

    def get_cached_configs_and_states(self, cached_states_path, num_variations):
        """Load them, or make them and write them over what is there."""
        if not cached_states_path.startswith("/"):
            here = osp.dirname(osp.abspath(__file__))
            cached_states_path = osp.join(here, "../cached_initial_states", cached_states_path)
        if self.use_cached_states and osp.exists(cached_states_path):
            with open(cached_states_path, "rb") as handle:
                self.cached_configs, self.cached_init_states = pickle.load(handle)
            print("{} config and state pairs loaded".format(len(self.cached_init_states)))
            if len(self.cached_configs) == num_variations:
                return self.cached_configs, self.cached_init_states
        self.cached_configs, self.cached_init_states = self.generate_env_variation(num_variations)
        if self.save_cached_states:
            with open(cached_states_path, "wb") as handle:
                pickle.dump((self.cached_configs, self.cached_init_states), handle, protocol=4)
        return self.cached_configs, self.cached_init_states

    def get_current_config(self):
        """The present one."""
        return self.current_config

    def update_camera(self, camera_name, camera_param=None):
        """Switch cameras."""
        if camera_param is not None:
            self.camera_params[camera_name] = camera_param
        else:
            camera_param = self.camera_params[camera_name]
        sides = camera_param["width"], camera_param["height"]
        pyflex.set_camera_params(np.array([*camera_param["pos"], *camera_param["angle"], *sides]))

    def get_state(self):
        """Particles, shapes and cameras; not what the pickers hold."""
        return {
            "particle_pos": pyflex.get_positions(),
            "particle_vel": pyflex.get_velocities(),
            "shape_pos": pyflex.get_shape_states(),
            "phase": pyflex.get_phases(),
            "camera_params": copy.deepcopy(self.camera_params),
            "config_id": self.current_config_id,
        }

    def set_state(self, state_dict):
        """Put it back."""
        pyflex.set_positions(state_dict["particle_pos"])
        pyflex.set_velocities(state_dict["particle_vel"])
        pyflex.set_shape_states(state_dict["shape_pos"])
        pyflex.set_phases(state_dict["phase"])
        self.camera_params = copy.deepcopy(state_dict["camera_params"])
        self.update_camera(self.camera_name)

    def close(self):
        """End FleX."""
        pyflex.clean()

    def reset(self, config=None, initial_state=None, config_id=None):
        """An observation alone."""
        if config_id is None:
            beginning = int(0.8 * len(self.cached_configs)) if self.eval_flag else 0
            config_id = beginning if self.deterministic else np.random.randint(len(self.cached_configs))
        self.current_config, self.current_config_id = self.cached_configs[config_id], config_id
        self.set_scene(self.cached_configs[config_id], self.cached_init_states[config_id])
        self.prev_reward, self.time_step = 0.0, 0
        return self._reset()

    def step(self, action, record_continuous_video=False, img_size=None):
        """Four values; done at the horizon alone."""
        for _ in range(self.action_repeat):
            self._step(action)
        obs = self._get_obs()
        reward = self.compute_reward(action, obs, set_prev_reward=True)
        info = self._get_info()
        self.time_step += 1
        return obs, reward, self.time_step >= self.horizon, info

    def render(self, mode="rgb_array"):
        """(height, width, 3), of floats."""
        img, _ = pyflex.render()
        width = self.camera_params["default_camera"]["width"]
        height = self.camera_params["default_camera"]["height"]
        return img.reshape(height, width, 4)[::-1, :, :3]

    def get_image(self, width=720, height=720):
        """The picture, resized."""
        img = self.render(mode="rgb_array").astype(np.uint8)
        if width != img.shape[0] or height != img.shape[1]:
            import cv2

            img = cv2.resize(img, (width, height))
        return img
