"""Real SoftGym behind armchair's pipes. Python 3.6 and later; numpy, softgym and pyflex alone.

Written after SoftGym's own source (Xingyu-Lin/softgym) and RL-VLM-F's changed copy of it: old gym's reset
that returns an observation, a step that returns four things, `env_arg_dict` and `SOFTGYM_ENVS`.
"""

import inspect
import os
import platform

import armchair_serve as link
import numpy as np

STEP_S = 0.01
FOLDER = "cached_initial_states"
FEW = 10


class Session:
    """One environment; FleX has one scene in a process."""

    def __init__(self):
        self.env = None
        self.normal = None
        self.pyflex = None
        self.camera = "default_camera"

    def open(self, request, arrays):
        """Make the environment, and say what is fixed about it."""
        pyflex = flex()
        registry, normalize = softgym()
        task = request["task"]
        if task not in registry.SOFTGYM_ENVS:
            raise link.Trouble(
                "config",
                "the installed SoftGym has no task {!r}: write one of {}.".format(
                    task, ", ".join(registry.SOFTGYM_ENVS)
                ),
            )
        if request["check_cuda"]:
            trouble = link.cuda_trouble()
            if trouble is not None:
                raise link.Trouble("machine", "FleX runs on CUDA, which does not start: {}.".format(trouble))
        kind = registry.SOFTGYM_ENVS[task]
        settings = dict(registry.env_arg_dict[task])
        settings.update(request["settings"])
        settings.update(observation_mode=request["observation"], deterministic=False, use_cached_states=True)
        if "recording" in settings:
            # RL-VLM-F's: keeps every frame of an episode in memory.
            settings["recording"] = False
        own, allowed = states_file(kind, settings, request)
        if own is not None:
            settings["cached_states_path"] = own
        watch_generation(kind, allowed, own, settings.get("num_variations", 1))
        self.env = kind(**settings)
        self.normal = normalize(self.env)
        self.pyflex = pyflex
        first = self._begin(0, 0)
        check_cameras(self.env)
        space = self.env.action_space
        text = {
            "horizon": int(self.env.horizon),
            "step_s": STEP_S * int(self.env.action_repeat),
            "action_mode": str(self.env.action_mode),
            "variations": len(self.env.cached_configs),
            "cameras": sorted(self.env.camera_params),
            "space": list(self.env.observation_space.shape),
            "observation": list(first.shape),
            "hides": "hide_picker" in inspect.signature(type(self.env).render).parameters,
            "versions": "Python {}, numpy {}".format(platform.python_version(), np.__version__),
        }
        return text, {"low": np.asarray(space.low), "high": np.asarray(space.high)}

    def reset(self, request, arrays):
        """Begin with an initial state by its number. The seed is for what else draws."""
        return self._said(self._begin(request["variation"], request["seed"]), 0.0, False)

    def step(self, request, arrays):
        """Take a step with an action in [-1, 1]."""
        observation, reward, done, info = self.normal.step(arrays["action"])
        return self._said(observation, reward, done, info)

    def render(self, request, arrays):
        """A picture as SoftGym makes it: drawn at the size that FleX was started with, then resized."""
        height, width, camera = request["height"], request["width"], request["camera"]
        if camera != self.camera:
            self.env.update_camera(camera)
            self.camera = camera
        if request["hide"]:
            picture = self.env.render(mode="rgb_array", hide_picker=True)
        else:
            picture = self.env.get_image(width, height)
        return {}, {"picture": np.asarray(picture)[:, :, :3].astype(np.uint8)}

    def points(self, request, arrays):
        """All particles, (n, 3) m."""
        return {}, {"points": np.asarray(self.pyflex.get_positions()).reshape(-1, 4)[:, :3]}

    def save(self, request, arrays):
        """SoftGym's state, and what its picker and its environment remember beside it."""
        kept = {}
        tree = {"state": self.env.get_state(), "env": memory(self.env), "tool": memory(self._tool())}
        return {"tree": link.pack(tree, kept)}, kept

    def restore(self, request, arrays):
        """Go back to what `save` gave. The scene is set up by a reset first: `set_state` alone would leave
        another number of particles. PassWater's moves the water on by five steps, so what it set is set
        again after it."""
        self._begin(request["variation"], request["seed"])
        tree = link.unpack(request["tree"], arrays)
        state = tree["state"]
        self.env.set_state(state)
        self.pyflex.set_positions(state["particle_pos"])
        self.pyflex.set_velocities(state["particle_vel"])
        self.pyflex.set_shape_states(state["shape_pos"])
        for name, value in tree["env"].items():
            setattr(self.env, name, value)
        for name, value in tree["tool"].items():
            setattr(self._tool(), name, value)
        self.env.update_camera(self.camera)
        return self._said(self.env._get_obs(), request["reward"], False)

    def _begin(self, variation, seed):
        link.seed_all(seed)
        observation = self.normal.reset(config_id=variation)
        self.camera = self.env.camera_name
        return np.asarray(observation)

    def _tool(self):
        return getattr(self.env, "action_tool", None)

    def _said(self, observation, reward, done, info=None):
        info = self.env._get_info() if info is None else info
        text = {"reward": float(reward), "done": bool(done), "info": link.plain(info)}
        return text, {"observation": np.asarray(observation)}


def flex():
    """FleX's Python binding, or what is wrong with what is called so."""
    try:
        import pyflex
    except ImportError as error:
        raise link.Trouble(
            "machine",
            "PyFleX cannot be imported ({}). Compile it as SoftGym's README says (prepare_1.0.sh, "
            "compile_1.0.sh), and put PyFlex/bindings/build on PYTHONPATH.".format(error),
        ) from error
    if not hasattr(pyflex, "set_scene"):
        where = getattr(pyflex, "__file__", "?")
        raise link.Trouble(
            "machine",
            "the module pyflex at {} is not FleX: it has no set_scene. PyPI's package of that name is "
            "seismology: pip uninstall pyflex, and compile SoftGym's PyFleX.".format(where),
        )
    if "PYFLEXROOT" not in os.environ:
        raise link.Trouble(
            "machine",
            "the environment variable PYFLEXROOT is not set: export it as SoftGym's prepare_1.0.sh does "
            "(the folder PyFlex), then start armchair.",
        )
    return pyflex


def softgym():
    """SoftGym's registry and `normalize`, or what is missing."""
    try:
        from softgym import registered_env
        from softgym.utils.normalized_env import normalize
    except ImportError as error:
        missing = getattr(error, "name", None) or ""
        if missing.split(".")[0] == "softgym":
            raise link.Trouble(
                "machine",
                "SoftGym cannot be imported ({}): put the clone of Xingyu-Lin/softgym, or of RL-VLM-F's "
                "folder softgym, on PYTHONPATH.".format(error),
            ) from error
        raise link.Trouble("machine", "SoftGym cannot be imported: {}.".format(error)) from error
    return registered_env, normalize


def states_file(kind, settings, request):
    """The file of a class's initial states, and whether they may be made.

    A number of states that armchair's user named goes into a file of its own, in the folder `keep`; SoftGym's
    own number must be there, but for tasks that have few.
    """
    path = settings.get("cached_states_path")
    for owner in kind.__mro__:
        known = inspect.signature(owner.__init__).parameters.get("cached_states_path")
        if path is None and known is not None and isinstance(known.default, str):
            path = known.default
    if path is None:
        return None, True
    states, count = request["states"], request["variations"]
    if count is not None:
        settings["num_variations"] = count
        stem = os.path.splitext(os.path.basename(path))[0]
        name = "{}_{}_at_{}.pkl".format(stem, count, settings["camera_width"])
        return os.path.join(request["keep"], name), True
    if states is not None:
        path = states if states.endswith(".pkl") else os.path.join(states, os.path.basename(path))
    if not os.path.isabs(path):
        import softgym

        path = os.path.join(os.path.dirname(os.path.abspath(softgym.__file__)), FOLDER, path)
    few = settings.get("num_variations", 1) <= FEW
    return path, few and not os.path.exists(path)


def watch_generation(kind, allowed, path, wanted):
    """Let a class make its initial states only where that was asked for: SoftGym takes about a minute for
    each, and writes over a file that holds another number of them."""
    generate = kind.generate_env_variation

    def guarded(self, *arguments, **more):
        held = 0 if self.cached_configs is None else len(self.cached_configs)
        if not allowed:
            raise link.Trouble(
                "machine",
                "its {} initial states are not there: {} {}. SoftGym makes them, about a minute each. Put "
                "a file there, or ask for fewer, kept apart: ARMCHAIR_SOFTGYM_VARIATIONS=20.".format(
                    wanted, path, "holds {}".format(held) if held else "is missing"
                ),
            )
        print("making {} initial states into {}".format(wanted, path))
        return generate(self, *arguments, **more)

    kind.generate_env_variation = guarded


def check_cameras(env):
    """Refuse initial states whose cameras are of another size than FleX draws: FleX would read pixels that it
    never drew."""
    for name, camera in env.camera_params.items():
        size, drawn = (camera["width"], camera["height"]), (env.camera_width, env.camera_height)
        if size != drawn:
            raise link.Trouble(
                "config",
                "camera_size is {}, but the initial states were made with camera {} of {}: leave it at {}, "
                "or have others made.".format(drawn[0], name, size[0], size[0]),
            )


def memory(owner):
    """The attributes of an object that are numbers, None, arrays, or lists of them: what changes from step to
    step. Recorded frames and what `get_state` holds as dictionaries stay out."""
    left = ("video_frames", "cached_configs", "cached_init_states")
    known = {} if owner is None else vars(owner)
    return {name: value for name, value in known.items() if name not in left and is_plain(value)}


def is_plain(value):
    """Whether a value is a number, None, an array of numbers, or a short list of such."""
    if isinstance(value, (list, tuple)):
        return len(value) <= 64 and all(is_plain(entry) for entry in value)
    if isinstance(value, (np.ndarray, np.generic)):
        return np.asarray(value).dtype.kind in "biuf"
    return value is None or isinstance(value, (bool, int, float))


if __name__ == "__main__":
    session = Session()
    link.serve(
        {
            "open": session.open,
            "reset": session.reset,
            "step": session.step,
            "render": session.render,
            "points": session.points,
            "save": session.save,
            "restore": session.restore,
        }
    )
