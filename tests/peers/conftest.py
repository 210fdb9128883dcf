"""Peers are installed into environments of their own, from a package index: `make test-peers`."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "peers: needs another project, which it installs beside ours")
