"""The start-up check: a node without the Fast DDS profile or the malloc settings says so, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ros_nodes import dds
from ros_nodes.startup import PROFILE_VARIABLE, missing_settings

from ..conftest import ROOT, NodeProcess

PROFILE = ROOT / "launch/fastdds.xml"


def tuned(**changes: str) -> dict[str, str]:
    return {PROFILE_VARIABLE: str(PROFILE), **dds.MALLOC, **changes}


def test_the_environment_of_a_stack_lacks_nothing() -> None:
    assert missing_settings(dds.environment(5, PROFILE, base={})) == ()


def test_a_bare_environment_is_told_of_both_with_the_remedy() -> None:
    profile, malloc = missing_settings({})
    assert "FASTRTPS_DEFAULT_PROFILES_FILE is not set" in profile
    assert "armchair up" in profile
    assert "MALLOC_TRIM_THRESHOLD_, MALLOC_MMAP_THRESHOLD_" in malloc
    assert str(1 << 30) in malloc


def test_a_profile_that_helps_nothing_is_told_by_its_file(tmp_path: Path) -> None:
    empty, small = tmp_path / "empty.xml", tmp_path / "small.xml"
    empty.write_text("<profiles/>")
    small.write_text(PROFILE.read_text().replace("67108864", "4194304"))
    for file, words in (
        (tmp_path / "nowhere.xml", "cannot be read"),
        (empty, "sets no segment_size"),
        (small, "4096 KiB instead of 65536"),
    ):
        (text,) = missing_settings(tuned(**{PROFILE_VARIABLE: str(file)}))
        assert str(file) in text
        assert words in text


def test_another_middleware_is_not_asked_for_a_fast_dds_profile() -> None:
    environment = tuned(RMW_IMPLEMENTATION="rmw_cyclonedds_cpp")
    del environment[PROFILE_VARIABLE]
    assert missing_settings(environment) == ()


def test_a_camera_started_by_hand_warns_and_one_with_the_settings_does_not(
    domain: int, start: Callable[..., NodeProcess], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, quiet = start("camera_node", backend="none").finish()
    monkeypatch.delenv(PROFILE_VARIABLE)
    for name in dds.MALLOC:
        monkeypatch.delenv(name)
    _, loud = start("camera_node", backend="none").finish()
    assert "is not set" not in quiet
    assert "not set: MALLOC" not in quiet
    assert f"{PROFILE_VARIABLE} is not set" in loud
    assert "not set: MALLOC" in loud
    assert "[WARN]" in loud
