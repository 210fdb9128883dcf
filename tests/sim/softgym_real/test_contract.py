"""One contract over real SoftGym's adapter, on SoftGym's double, and over armchair's equivalents.

What FleX itself does is not covered: it needs an NVIDIA GPU and an old Python.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sim.conformance import EnvConformance
from sim.env import Env
from sim.pbd.compiled import cache_folder
from sim.softgym.env import SoftGymEnv
from sim.softgym.pass_water import PassWater
from sim.softgym_real.env import RealSoftGymEnv
from sim.softgym_real.install import SoftGymInstall
from tests.sim.softgym_real.contract import EasyRopeContract, PassWaterContract, RopeContract


class _OnTheDouble:
    """Made through the adapter, in a process of its own."""

    task: str
    where: SoftGymInstall

    @pytest.fixture(scope="class")
    @classmethod
    def installation(cls, installed: SoftGymInstall) -> None:
        cls.where = installed

    @classmethod
    def make(cls, **options: Any) -> Any:
        return RealSoftGymEnv(cls.task, camera_size=96, install=cls.where, **options)

    @classmethod
    def kept(cls) -> list[Path]:
        assert cls.where.states is not None
        return sorted(cls.where.states.glob("*.pkl"))


class _Equivalent:
    """armchair's own."""

    task: str

    @classmethod
    def make(cls, **options: Any) -> Any:
        return SoftGymEnv(cls.task, **options)

    @classmethod
    def kept(cls) -> list[Path]:
        return sorted((cache_folder() / "softgym-equivalent").glob(f"{cls.task}-*/*.npz"))


class TestRopeFlattenOfTheDouble(_OnTheDouble, RopeContract):
    """SoftGym's own."""


class TestRopeFlattenOfOurs(_Equivalent, RopeContract):
    """The same of the equivalent."""


@pytest.mark.long
class TestRopeFlattenEasyOfTheDouble(_OnTheDouble, EasyRopeContract):
    """RL-VLM-F's: it declares success and hides its pickers."""


@pytest.mark.long
class TestRopeFlattenEasyOfOurs(_Equivalent, EasyRopeContract):
    """The same of the equivalent."""


@pytest.mark.long
class TestPassWaterOfTheDouble(_OnTheDouble, PassWaterContract):
    """A class whose `set_state` moves the simulation on."""


@pytest.mark.long
class TestPassWaterOfOurs(_Equivalent, PassWaterContract):
    """The same of the equivalent, whose cloud is as long as its own most water."""

    particles = PassWater().most_points


class _Conformance(EnvConformance):
    """What every environment promises, over the adapter; each test starts processes of its own."""

    task = ""
    camera = "default_camera"
    steps = 4

    @pytest.fixture(autouse=True)
    def installation(self, double: SoftGymInstall) -> None:
        self.where = double

    def make(self) -> Env:
        return RealSoftGymEnv(self.task, camera_size=96, horizon=8, install=self.where)


@pytest.mark.long
@pytest.mark.timeout(3600)
class TestConformanceOfRopeFlatten(_Conformance):
    task = "RopeFlatten"


@pytest.mark.long
class TestConformanceOfRopeFlattenEasy(_Conformance):
    task = "RopeFlattenEasy"
    # Two hundred processes are opened for RopeFlatten.
    test_opening_and_closing_200_times_leaks_no_memory_and_no_context = None  # type: ignore[assignment]


@pytest.mark.long
class TestConformanceOfPassWater(_Conformance):
    task = "PassWater"
    test_opening_and_closing_200_times_leaks_no_memory_and_no_context = None  # type: ignore[assignment]
