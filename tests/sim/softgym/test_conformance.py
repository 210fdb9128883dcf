"""Every task keeps the environment's promises."""

from __future__ import annotations

from sim.conformance import EnvConformance
from sim.env import Env
from sim.make import make_env


class TestRopeFlatten(EnvConformance):
    camera = "default_camera"

    def make(self) -> Env:
        return make_env("softgym-equivalent/RopeFlatten", horizon=15)


class TestRopeFlattenEasy(EnvConformance):
    camera = "default_camera"

    def make(self) -> Env:
        return make_env("softgym-equivalent/RopeFlattenEasy", horizon=15)


class TestRopeConfiguration(EnvConformance):
    camera = "side"

    def make(self) -> Env:
        return make_env("softgym-equivalent/RopeConfiguration", horizon=15)
