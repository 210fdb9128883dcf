"""What ROS processes of one stack share: environment, DDS profile, domain, shared memory. Needs no ROS
itself."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from episodes.errors import ConfigError, MachineError

Discovery = Literal["localhost", "subnet", "system_default", "off"]
"""How far nodes look for each other: ROS_AUTOMATIC_DISCOVERY_RANGE."""

SHARED_MEMORY = Path("/dev/shm")
SEGMENT_BYTES = 64 << 20
SMALLEST_SEGMENT_BYTES = 1 << 20
MALLOC = {"MALLOC_TRIM_THRESHOLD_": str(1 << 30), "MALLOC_MMAP_THRESHOLD_": str(1 << 30)}
"""Without these glibc gives every camera frame back to the kernel: 2 to 3 times the latency and 6 times the
CPU."""
DISCOVERY_VARIABLE = "ROS_AUTOMATIC_DISCOVERY_RANGE"
SHARED = {DISCOVERY_VARIABLE: "LOCALHOST", **MALLOC, "OMP_NUM_THREADS": "1"}
"""What every node of a stack gets where the environment does not say otherwise."""
DOMAINS = range(102)
"""Domains whose UDP ports lie below the range from which Linux draws ephemeral ports."""

_PORT = re.compile(r"^fastrtps_port(\d{1,5})$")
_SEGMENT_LOCK = re.compile(r"^(fastrtps_(?:[0-9a-z]{16}|port\d{1,5}))_[es]l$")


def environment(
    domain: int,
    profile: Path,
    base: Mapping[str, str] = os.environ,
    discovery: Discovery | None = None,
) -> dict[str, str]:
    """Environment of a stack's processes: Fast DDS profile, malloc, domain, range of discovery.

    Without `discovery` ROS_AUTOMATIC_DISCOVERY_RANGE of `base` counts, and this host alone where it is not
    set. The malloc variables are left as they are where they are set already.
    """
    given = {} if discovery is None else {DISCOVERY_VARIABLE: discovery.upper()}
    return {
        **SHARED,
        **base,
        **given,
        "FASTRTPS_DEFAULT_PROFILES_FILE": str(profile),
        "ROS_DOMAIN_ID": str(domain),
        "PYTHONUNBUFFERED": "1",
    }


@contextlib.contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables while the block runs; Fast DDS reads them when a participant is made."""
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def environment_domain(base: Mapping[str, str] = os.environ) -> int | None:
    """ROS_DOMAIN_ID, None where it is not set.

    Raises:
        ConfigError: it is no domain.
    """
    text = base.get("ROS_DOMAIN_ID", "")
    if not text:
        return None
    if not text.isdecimal():
        raise ConfigError(f"ROS_DOMAIN_ID is {text!r}: write a number, {DOMAINS[0]} to {DOMAINS[-1]}.")
    return _in_range(int(text))


def fitting_profile(
    profile: Path, processes: int, folder: Path, free_bytes: int | None = None
) -> tuple[Path, str | None]:
    """The profile to use, and what to tell the user when its segments had to shrink.

    Where /dev/shm cannot hold one segment per process, a copy with smaller ones is written to `folder`.

    Raises:
        MachineError: /dev/shm has no room even for the smallest segments.
    """
    free = shutil.disk_usage(SHARED_MEMORY).free if free_bytes is None else free_bytes
    # A quarter stays free: discovery and ports need shared memory beside the segments.
    fits = int(free * 0.75) // max(processes, 1)
    if fits >= SEGMENT_BYTES:
        return profile, None
    if fits < SMALLEST_SEGMENT_BYTES:
        raise MachineError(
            f"{SHARED_MEMORY} has {free >> 20} MiB free, too little for {processes} ROS processes. Free "
            "some (`fastdds shm clean` removes what dead processes left), or start the container with "
            "--shm-size=1g."
        )
    text = profile.read_text()
    text = re.sub(r"<segment_size>\d+<", f"<segment_size>{fits}<", text)
    text = re.sub(r"<maxMessageSize>\d+<", f"<maxMessageSize>{min(fits // 2, 16 << 20)}<", text)
    smaller = folder / "fastdds.xml"
    smaller.write_text(text)
    return smaller, (
        f"{SHARED_MEMORY} has {free >> 20} MiB free, so shared-memory segments are {fits >> 20} MiB "
        f"instead of {SEGMENT_BYTES >> 20}: large camera frames may be lost. Containers: --shm-size=1g or "
        "--ipc=host."
    )


@contextlib.contextmanager
def hold_domain(domain: int | None, purpose: str, *, alone: bool = True) -> Iterator[int]:
    """Reserve a ROS domain on this host while the block runs; None takes the first free one, from 1 up.

    With `alone` no ROS process may be there yet; else only nobody else who has reserved it.

    Raises:
        ConfigError: a domain outside 0 to 101.
        MachineError: the domain is in use, by another stack or any other ROS process.
    """
    for candidate in DOMAINS[1:] if domain is None else (_in_range(domain),):
        with _locked(_lock_path(candidate), purpose) as other:
            holder = other or (_heard(candidate) if alone or domain is None else None)
            if holder is None:
                yield candidate
                return
        if domain is not None:
            raise MachineError(
                f"ROS domain {domain} is in use on this machine by {holder}: two stacks in one domain "
                "would drive each other's robot. End that one, or choose another domain with --domain N "
                "(0 to 101)."
            )
    raise MachineError("every ROS domain from 1 to 101 is in use on this machine: end some stack first.")


@contextlib.contextmanager
def join_domain(domain: int, nodes: Iterable[str], purpose: str) -> Iterator[int]:
    """Join a ROS domain in which others run, and reserve the names of our nodes in it while the block runs.

    Raises:
        ConfigError: a domain outside 0 to 101.
        MachineError: another stack of this host runs a node of that name in this domain.
    """
    _in_range(domain)
    with contextlib.ExitStack() as held:
        for node in sorted(set(nodes)):
            other = held.enter_context(_locked(_lock_path(domain, node), purpose))
            if other is not None:
                raise MachineError(
                    f"node {node!r} runs in ROS domain {domain} already, started by {other}: two of them "
                    "would act for one robot. End that stack, or choose another domain with --domain N."
                )
        yield domain


def _in_range(domain: int) -> int:
    if domain not in DOMAINS:
        raise ConfigError(f"ROS domain {domain} is out of range: {DOMAINS[0]} to {DOMAINS[-1]}.")
    return domain


@contextlib.contextmanager
def _locked(path: Path, purpose: str) -> Iterator[str | None]:
    """Lock a file while the block runs; gives None once this process holds it, else who does."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        holder = _lock(handle)
        if holder is None:
            os.ftruncate(handle, 0)
            os.write(handle, f"{purpose}, process {os.getpid()}".encode())
        yield holder
    finally:
        os.close(handle)


def _lock_path(domain: int, node: str = "") -> Path:
    folder = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    if not os.access(folder, os.W_OK):
        folder = Path(tempfile.gettempdir())
    part = f"-node-{re.sub(r'[^A-Za-z0-9_]', '.', node)}" if node else ""
    return folder / f"armchair-{os.getuid()}-domain-{domain}{part}.lock"


def _lock(handle: int) -> str | None:
    """None once this process holds the lock, else who does."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(handle, 200, 0).decode(errors="replace") or "another stack"
    return None


def _heard(domain: int) -> str | None:
    """Who holds the domain's first discovery port, None if nobody does."""
    port = _port(domain) + 10
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("0.0.0.0", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return f"a ROS process that holds UDP port {port}"
    return None


def clean_segments(since_s: float, domain: int | None = None) -> int:
    """Remove shared-memory files that dead processes left; returns their number.

    A process that is killed cannot remove its segment, and Fast DDS never does it later. A living owner
    holds a lock on the file `_el` beside it (`_sl` when shared), as `fastdds shm clean` knows too. Only
    segments made since `since_s` (epoch seconds) count. A port without a lock file has no listener, but a
    living sender may have it open: it goes if it belongs to `domain`, whose stack has ended, or when no
    living process uses Fast DDS at all.
    """
    removed, living = 0, 0
    names = sorted(path.name for path in SHARED_MEMORY.iterdir()) if SHARED_MEMORY.is_dir() else []
    for name in names:
        if (match := _SEGMENT_LOCK.match(name)) is None:
            continue
        owner = _owner(SHARED_MEMORY / name, since_s)
        living += owner == "living"
        if owner == "dead":
            removed += _remove(name, match[1], f"sem.{match[1]}_mutex")
    ours = () if domain is None else range(_port(domain), _port(domain + 1))
    for name in names:
        match = _PORT.match(name)
        locked = any(f"{name}{suffix}" in names for suffix in ("_el", "_sl"))
        if match is not None and not locked and (int(match[1]) in ours or not living):
            removed += _remove(name, f"sem.{name}_mutex")
    return removed


def _port(domain: int) -> int:
    """The first port of a domain (RTPS 9.6.1.4)."""
    return 7400 + 250 * domain


def _owner(lock: Path, since_s: float) -> Literal["living", "dead", "none of ours"]:
    """Whether the process that made a lock file since `since_s` still lives."""
    try:
        with open(lock, "rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(handle.fileno())
    except BlockingIOError:
        return "living"
    except (FileNotFoundError, PermissionError):
        return "none of ours"
    return "dead" if status.st_uid == os.getuid() and status.st_mtime >= since_s else "none of ours"


def _remove(*names: str) -> int:
    """How many of the files were there and are gone."""
    there = [SHARED_MEMORY / name for name in names if (SHARED_MEMORY / name).exists()]
    for path in there:
        with contextlib.suppress(PermissionError):
            path.unlink(missing_ok=True)
    return len(there)
