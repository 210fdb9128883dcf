"""ManiSkill 3 behind armchair's pipes: one environment, PhysX on the CPU, state observations.

Tasks describe their looks while they are built, and SAPIEN's materials need a Vulkan device even where
nothing is drawn. Without one a stand-in takes their place, which nothing reads as long as no renderer runs:
physics and state observations are the same, and there are no cameras.
"""

import armchair_serve as link
import numpy as np


class StandIn:
    """Takes whatever a material takes, and is handed on."""

    def __init__(self, *arguments, **more):
        pass

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return StandIn()

    def __call__(self, *arguments, **more):
        return StandIn()


class Session:
    """One environment."""

    def __init__(self):
        self.env = None

    def open(self, request, arrays):
        """Make the environment, and say what is fixed about it."""
        backend, why = renderer()
        if backend == "none":
            stand_in()
        registered = maniskill()
        task = request["task"]
        if task not in registered:
            raise link.Trouble(
                "config", "ManiSkill has no task {!r}: {}.".format(task, near(task, registered))
            )
        settings = {"obs_mode": "state_dict", "sim_backend": "physx_cpu", "num_envs": 1}
        settings.update(render_backend=backend, render_mode=None if backend == "none" else "rgb_array")
        settings.update(request["settings"])
        entry = registered[task]
        try:
            self.env = entry.make(**settings)
        except (SystemExit, EOFError) as error:
            raise link.Trouble(
                "machine",
                "its assets are not here: python -m mani_skill.utils.download_asset {} --yes, with the same "
                "Python.".format(task),
            ) from error
        observation, _ = self.env.reset(seed=0)
        space = self.env.action_space
        if not hasattr(space, "low"):
            raise link.Trouble("config", "its actions are {}; armchair takes one box.".format(space))
        text = {
            "horizon": entry.max_episode_steps,
            "control_hz": float(self.env.control_freq),
            "entries": [[name, int(value.size)] for name, value in leaves(observation)],
            "cameras": sorted(self.env._human_render_cameras) if backend != "none" else [],
            "why": why,
            "version": versions(),
        }
        return text, {"low": np.asarray(space.low).ravel(), "high": np.asarray(space.high).ravel()}

    def reset(self, request, arrays):
        """Begin with a seed. The scene is built again, since PhysX remembers contacts."""
        link.seed_all(request["seed"])
        observation, _ = self.env.reset(seed=request["seed"], options={"reconfigure": True})
        return {}, {"observation": flat(observation)}

    def step(self, request, arrays):
        """Take a step."""
        action = arrays["action"].astype(np.float32)
        observation, reward, terminated, _, info = self.env.step(action)
        text = {
            "reward": float(single(reward)),
            "terminated": bool(single(terminated)),
            "info": link.plain({name: single(value) for name, value in info.items()}),
        }
        return text, {"observation": flat(observation)}

    def render(self, request, arrays):
        """A camera's picture, at its own size."""
        return {}, {"picture": single(self.env.render_rgb_array(request["camera"])).astype(np.uint8)}


def renderer():
    """The backend that draws here, or none, and why."""
    try:
        import sapien
        import sapien.render
    except ImportError as error:
        raise missing(error) from error
    why = ""
    for name in ("cuda", "cpu"):
        try:
            sapien.render.RenderSystem(sapien.Device(name))
        except RuntimeError as error:
            why = str(error)
        else:
            return name, ""
    return "none", why


def stand_in():
    """Put `StandIn` where SAPIEN's materials are, before ManiSkill takes their names."""
    import sapien.pysapien
    import sapien.wrapper.urdf_loader as loader

    for place in (sapien.render, sapien.pysapien.render, loader):
        place.RenderMaterial = StandIn
        place.RenderTexture2D = StandIn


def maniskill():
    """ManiSkill's tasks by name."""
    try:
        import mani_skill.envs  # noqa: F401
        from mani_skill.utils.registration import REGISTERED_ENVS
    except ImportError as error:
        raise missing(error) from error
    return REGISTERED_ENVS


def missing(error):
    """The trouble of a package that cannot be imported."""
    return link.Trouble(
        "machine",
        "ManiSkill cannot be imported ({}). It needs an environment of its own: python -m venv ~/maniskill, "
        "~/maniskill/bin/pip install mani_skill torch, then export "
        "ARMCHAIR_MANISKILL_PYTHON=~/maniskill/bin/python.".format(error),
    )


def versions():
    """What runs."""
    import mani_skill
    import sapien

    return "ManiSkill {}, SAPIEN {}".format(
        getattr(mani_skill, "__version__", "3"), getattr(sapien, "__version__", "?")
    )


def near(task, registered):
    """The names most like a wrong one."""
    import difflib

    found = difflib.get_close_matches(task, list(registered), n=3)
    return (
        "did you mean {}".format(" or ".join(found)) if found else "it has {}".format(", ".join(registered))
    )


def array(value):
    """A tensor, or what numpy takes, as an array."""
    return value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)


def single(value):
    """The one environment's part of a batch."""
    held = array(value)
    return held[0] if held.ndim else held


def leaves(observation, key=""):
    """(name, array) of the entries of a dictionary of batches."""
    if isinstance(observation, dict):
        for name, part in observation.items():
            for leaf in leaves(part, "{}_{}".format(key, name) if key else str(name)):
                yield leaf
    else:
        yield key or "state", np.asarray(single(observation))


def flat(observation):
    """All entries one after the other, (n,) float64."""
    return np.concatenate([np.asarray(v, np.float64).ravel() for _, v in leaves(observation)])


if __name__ == "__main__":
    session = Session()
    link.serve({"open": session.open, "reset": session.reset, "step": session.step, "render": session.render})
