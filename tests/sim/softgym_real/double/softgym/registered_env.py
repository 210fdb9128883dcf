"""Names, classes and their arguments."""

from collections import OrderedDict

from softgym.envs.pass_water import PassWater1DEnv
from softgym.envs.rope_flatten import RopeFlattenEasyEnv, RopeFlattenEnv

env_arg_dict = {
    "RopeFlatten": {
        "observation_mode": "cam_rgb",
        "action_mode": "picker",
        "num_picker": 2,
        "render": True,
        "headless": True,
        "horizon": 75,
        "action_repeat": 8,
        "render_mode": "cloth",
        "num_variations": 1000,
        "use_cached_states": True,
        "deterministic": False,
    },
    "RopeFlattenEasy": {
        "observation_mode": "key_point",
        "action_mode": "picker",
        "num_picker": 2,
        "render": True,
        "headless": True,
        "horizon": 40,
        "action_repeat": 6,
        "render_mode": "cloth",
        "num_variations": 1000,
        "use_cached_states": True,
        "deterministic": False,
        "recording": True,
    },
    "PassWater": dict(
        observation_mode="cam_rgb",
        action_mode="direct",
        render=True,
        headless=True,
        horizon=75,
        action_repeat=8,
        render_mode="fluid",
        deterministic=False,
        num_variations=1000,
    ),
}
SOFTGYM_ENVS = OrderedDict(
    {"PassWater": PassWater1DEnv, "RopeFlatten": RopeFlattenEnv, "RopeFlattenEasy": RopeFlattenEasyEnv}
)
