"""The arm's contracts, and a run of an episode through control."""

from __future__ import annotations

from pathlib import Path

import pytest

from episodes.contract import Contract, load_contract

CONTRACTS = Path(__file__).parents[3] / "launch" / "contracts"


@pytest.fixture(scope="session")
def arm6() -> Contract:
    """The contract without cameras."""
    return load_contract(CONTRACTS / "arm6_sim_state.yaml")


@pytest.fixture(scope="session")
def arm6_cameras() -> Contract:
    """The contract with three cameras."""
    return load_contract(CONTRACTS / "arm6_sim.yaml")
