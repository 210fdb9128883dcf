"""SoftGym's double as an installation of its own: its interpreter is this one, its modules the double's.

Where ARMCHAIR_SOFTGYM_PYTHON names a real installation the contract runs over that; what it asks of equal
bytes FleX does not keep.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

import pytest

from sim.softgym_real.install import PYTHON, SoftGymInstall, found

DOUBLE = Path(__file__).resolve().parent / "double"


@pytest.fixture(scope="session")
def double(tmp_path_factory: pytest.TempPathFactory) -> SoftGymInstall:
    """Five initial states a task, made by the first environment that wants them."""
    return SoftGymInstall(
        sys.executable,
        pythonpath=str(DOUBLE),
        pyflexroot="/PyFlex",
        states=tmp_path_factory.mktemp("states"),
        variations=5,
        check_cuda=False,
    )


@pytest.fixture(scope="session")
def installed(double: SoftGymInstall, tmp_path_factory: pytest.TempPathFactory) -> SoftGymInstall:
    """The user's SoftGym with five initial states of its own, else the double."""
    if not os.environ.get(PYTHON):
        return double
    return dataclasses.replace(found(), variations=5, states=tmp_path_factory.mktemp("real"))
