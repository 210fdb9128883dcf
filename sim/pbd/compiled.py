"""How kernels are compiled: one thread, no re-association of sums, and kept in the user's cache folder.

Without fastmath every lane of a vectorised loop computes what the scalar loop does, so a state is a function
of the state before it and of nothing else: not of the load, not of the number of cores.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
from llvmlite import binding

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

# A sweep over a row of cloth reads and writes ten streams. LLVM vectorises it only where it may test at run
# time that they are disjoint, which it gives up beyond eight comparisons unless told otherwise.
binding.set_option("armchair", "--runtime-memory-check-threshold=128")


def cache_folder() -> Path:
    """Where armchair keeps what can be made again: $ARMCHAIR_CACHE, or armchair in the user's cache
    folder."""
    if given := os.environ.get("ARMCHAIR_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "armchair"


def _sources() -> str:
    """A hash of the modules with kernels: numba's cache watches a kernel's own file, not those it calls."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


_SOURCES = _sources()


def kernel(function: Kernel) -> Kernel:
    """Compile at the first call, or load what an earlier process compiled.

    numba looks for its cache folder when the function is decorated; a folder that the user has set stays.
    """
    given = numba.config.CACHE_DIR  # type: ignore[attr-defined]
    numba.config.CACHE_DIR = given or str(cache_folder() / f"numba-{_SOURCES}")  # type: ignore[attr-defined]
    try:
        compiled: Kernel = numba.njit(cache=True, error_model="numpy", nogil=True)(function)
    finally:
        numba.config.CACHE_DIR = given  # type: ignore[attr-defined]
    return compiled
