"""Causal alignment against a brute-force reference written from the definition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from episodes.align import Aligned, CausalAligner, NotReady, command_for_ticks
from episodes.contract import ObservationStream
from episodes.errors import ContractError, EpisodeError

MAX_AGE = 12


def stream(name: str, align: str, max_age_ns: int = MAX_AGE) -> ObservationStream:
    shape = (4,) if align == "slerp" else (2,)
    return ObservationStream(
        name, name, "std_msgs/msg/Float64MultiArray", shape, "float64", align, max_age_ns
    )


STREAMS = {
    "reference": stream("reference", "nearest"),
    "nearest": stream("nearest", "nearest"),
    "linear": stream("linear", "linear"),
    "slerp": stream("slerp", "slerp"),
    "hold": stream("hold", "hold", 25),
}


@dataclass(frozen=True)
class Sample:
    name: str
    value: Any
    stamp_ns: int
    recv_ns: int


def value_of(name: str, number: int) -> np.ndarray:
    if name == "slerp":
        # Less than half a turn apart, so that the shortest arc is never in doubt.
        return np.asarray(Rotation.from_rotvec([0.1, 0.02 * number, 0.5 * np.sin(number)]).as_quat())
    return np.array([number, -(number**2)], dtype=np.float64)


@st.composite
def recordings(draw: st.DrawFn) -> list[Sample]:
    """Samples in receive order, with jitter, delays, bursts, gaps, duplicates and stamps out of order."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    samples = []
    for name in STREAMS:
        period, delay = draw(st.integers(1, 12)), draw(st.integers(0, 8))
        loss, repeat = draw(st.sampled_from([0.0, 0.1, 0.4])), draw(st.sampled_from([0.0, 0.2]))
        number = 0
        for nominal in range(draw(st.integers(0, 8)), 130, period):
            stamp = max(0, nominal + int(rng.integers(-3, 4)))
            for _ in range(int(rng.random() >= loss) + int(rng.random() < repeat)):
                recv = stamp + int(rng.integers(0, delay + 1))
                samples.append(Sample(name, value_of(name, number), stamp, recv))
                number += 1
    return sorted(samples, key=lambda s: s.recv_ns)


def brute_force(samples: list[Sample], tick_ns: int) -> dict[str, tuple[Any, ...]] | None:
    """Per stream (kind, samples involved) from the definition, None where any stream has nothing to give."""
    held: dict[str, dict[int, Sample]] = {name: {} for name in STREAMS}
    for sample in samples:
        if sample.recv_ns <= tick_ns:
            held[sample.name][sample.stamp_ns] = sample
    if not held["reference"]:
        return None
    at = max(held["reference"])
    if abs(tick_ns - at) > MAX_AGE:
        return None
    chosen: dict[str, tuple[Any, ...]] = {"reference": (held["reference"][at],)}
    for name, spec in STREAMS.items():
        if name == "reference":
            continue
        near = [s for s in held[name].values() if abs(s.stamp_ns - at) <= spec.max_age_ns]
        before = [s for s in near if s.stamp_ns <= at]
        after = [s for s in near if s.stamp_ns >= at]
        if spec.align == "hold":
            near = before
        if not near:
            return None
        if name in ("linear", "slerp") and before and after:
            a, b = max(before, key=lambda s: s.stamp_ns), min(after, key=lambda s: s.stamp_ns)
            chosen[name] = (a,) if a is b else (a, b)
        else:
            chosen[name] = (min(near, key=lambda s: (abs(s.stamp_ns - at), s.stamp_ns)),)
    return chosen


def expected(name: str, involved: tuple[Any, ...], at: int) -> np.ndarray:
    if len(involved) == 1:
        return np.asarray(involved[0].value)
    a, b = involved
    if name == "slerp":
        arc = Slerp([a.stamp_ns, b.stamp_ns], Rotation.from_quat([a.value, b.value]))
        return np.asarray(arc(at).as_quat())
    return np.array([np.interp(at, [a.stamp_ns, b.stamp_ns], [a.value[i], b.value[i]]) for i in range(2)])


@settings(max_examples=300, deadline=None)
@given(recordings(), st.lists(st.integers(0, 130), min_size=1, max_size=25))
def test_alignment_is_what_the_definition_says(samples: list[Sample], ticks: list[int]) -> None:
    aligner = CausalAligner(STREAMS, "reference")
    for sample in samples:
        aligner.push(sample.name, sample.value, sample.stamp_ns, sample.recv_ns)
    for tick in sorted(ticks):
        wanted = brute_force(samples, tick)
        got = aligner.at(tick)
        if wanted is None:
            assert isinstance(got, NotReady)
            assert got.missing or got.stale
            continue
        assert isinstance(got, Aligned)
        assert got.observation_ns == wanted["reference"][0].stamp_ns
        for name, involved in wanted.items():
            value = expected(name, involved, got.observation_ns)
            if len(involved) == 1:
                assert got.values[name] is involved[0].value
            elif name == "slerp":
                assert abs(np.dot(got.values[name], value)) == pytest.approx(1.0, abs=1e-12)
            else:
                np.testing.assert_allclose(got.values[name], value, rtol=1e-12, atol=1e-12)
            if name != "reference":
                ages = [abs(s.stamp_ns - got.observation_ns) for s in involved]
                assert got.ages_ns[name] == max(ages)
                assert abs(got.stamps_ns[name] - got.observation_ns) == max(ages)


@settings(max_examples=150, deadline=None)
@given(recordings(), st.integers(1, 9), st.integers(0, 9))
def test_a_live_node_that_has_not_seen_the_future_gets_the_same(
    samples: list[Sample], period: int, phase: int
) -> None:
    ticks = list(range(phase, 140, period))
    told = CausalAligner(STREAMS, "reference")
    for sample in samples:
        told.push(sample.name, sample.value, sample.stamp_ns, sample.recv_ns)
    live = CausalAligner(STREAMS, "reference")
    waiting = list(samples)
    for tick in ticks:
        while waiting and waiting[0].recv_ns <= tick:
            sample = waiting.pop(0)
            live.push(sample.name, sample.value, sample.stamp_ns, sample.recv_ns)
        a, b = told.at(tick), live.at(tick)
        assert type(a) is type(b)
        if isinstance(a, Aligned) and isinstance(b, Aligned):
            assert (a.observation_ns, a.stamps_ns, a.ages_ns) == (b.observation_ns, b.stamps_ns, b.ages_ns)
            for name in STREAMS:
                assert a.values[name].tobytes() == b.values[name].tobytes()


def test_slerp_takes_the_shortest_arc_between_opposite_signs() -> None:
    aligner = CausalAligner({"r": stream("r", "nearest", 100), "slerp": stream("slerp", "slerp", 100)}, "r")
    a, b = Rotation.identity(), Rotation.from_rotvec([0.0, 0.0, 1.0])
    aligner.push("slerp", a.as_quat(), 0, 0)
    aligner.push("slerp", -b.as_quat(), 40, 40)
    aligner.push("r", [0.0, 0.0], 10, 40)
    got = aligner.at(40)
    assert isinstance(got, Aligned)
    turned = Rotation.from_quat(got.values["slerp"])
    np.testing.assert_allclose(turned.as_rotvec(), [0.0, 0.0, 0.25], atol=1e-12)


def test_a_quaternion_of_length_zero_gives_nan_and_no_warning() -> None:
    aligner = CausalAligner({"r": stream("r", "nearest", 100), "slerp": stream("slerp", "slerp", 100)}, "r")
    aligner.push("slerp", [0.0, 0.0, 0.0, 0.0], 0, 0)
    aligner.push("slerp", [0.0, 0.0, 0.0, 1.0], 40, 40)
    aligner.push("r", [0.0, 0.0], 10, 40)
    got = aligner.at(40)
    assert isinstance(got, Aligned)
    assert np.isnan(got.values["slerp"]).all()


def test_a_sample_is_kept_when_others_write_to_the_memory_in_which_it_lies() -> None:
    aligner = CausalAligner(STREAMS, "reference")
    memory = np.arange(8, dtype=np.float64)
    aligner.push("reference", memory[2:4], 1, 1)
    aligner.push("hold", memory[6:], 1, 1)
    own = np.array([8.0, 9.0])
    aligner.push("linear", own, 1, 1)
    for name in STREAMS:
        aligner.keep(name, memory[:4])
    memory[:] = -1
    for name in ("nearest", "slerp"):
        aligner.push(name, value_of(name, 1), 1, 1)
    found = aligner.at(1)
    assert isinstance(found, Aligned)
    assert found.values["reference"].tolist() == [2.0, 3.0]
    assert found.values["hold"].tolist() == [-1.0, -1.0], "it lies elsewhere"
    assert found.values["linear"] is own


def test_the_newest_frame_is_not_seen_before_it_was_received() -> None:
    aligner = CausalAligner({"r": stream("r", "nearest", 100)}, "r")
    aligner.push("r", [1.0, 0.0], 10, 12)
    aligner.push("r", [2.0, 0.0], 20, 31)
    first, second = aligner.at(30), aligner.at(31)
    assert isinstance(first, Aligned)
    assert isinstance(second, Aligned)
    assert (first.observation_ns, second.observation_ns) == (10, 20)


def test_missing_and_stale_streams_are_told_apart() -> None:
    aligner = CausalAligner(STREAMS, "reference")
    assert aligner.at(0) == NotReady(tuple(STREAMS), {})
    aligner.push("reference", [0.0, 0.0], 100, 100)
    for name in ("nearest", "linear"):
        aligner.push(name, [0.0, 0.0], 100 - MAX_AGE - 1, 100)
    aligner.push("hold", [0.0, 0.0], 101, 101)
    aligner.push("slerp", [0.0, 0.0, 0.0, 1.0], 100, 100)
    assert aligner.at(101) == NotReady(("hold",), {"nearest": MAX_AGE + 1, "linear": MAX_AGE + 1})
    assert aligner.at(100 + MAX_AGE + 1) == NotReady((), {"reference": MAX_AGE + 1})


def test_memory_stays_bounded_even_when_the_reference_stops() -> None:
    aligner = CausalAligner({"r": stream("r", "nearest"), "hold": stream("hold", "hold")}, "r")
    for k in range(5000):
        if k < 100:
            aligner.push("r", [0.0, 0.0], k, k)
        aligner.push("hold", [0.0, 0.0], k, k)
        aligner.at(k)
    assert sum(len(samples) for samples in aligner._values.values()) < 3 * MAX_AGE


def test_ticks_never_go_back_until_reset() -> None:
    aligner = CausalAligner({"r": stream("r", "nearest")}, "r")
    aligner.push("r", [0.0, 0.0], 5, 5)
    assert isinstance(aligner.at(5), Aligned)
    with pytest.raises(EpisodeError, match="tick 4 lies before the last one, 5"):
        aligner.at(4)
    aligner.reset()
    assert aligner.at(4) == NotReady(("r",), {})


def test_unknown_streams_and_wrong_shapes_are_refused() -> None:
    with pytest.raises(ContractError, match="'x'"):
        CausalAligner({"r": stream("r", "nearest")}, "x")
    aligner = CausalAligner({"r": stream("r", "nearest")}, "r")
    with pytest.raises(EpisodeError, match="no stream 'q'"):
        aligner.push("q", [0.0, 0.0], 0, 0)
    with pytest.raises(EpisodeError, match=r"shape \(3,\)"):
        aligner.push("r", [0.0, 0.0, 0.0], 0, 0)


@dataclass(frozen=True)
class Stamps:
    stamp_ns: np.ndarray
    observation_ns: np.ndarray


def commands(*pairs: tuple[int, int]) -> Stamps:
    """Commands as (sent, observation)."""
    table = np.array(pairs, np.int64).reshape(-1, 2)
    return Stamps(table[:, 0], table[:, 1])


def match(observation_ns: list[int], tick_ns: list[int], sent: Stamps) -> list[int | None]:
    index, found = command_for_ticks(np.array(observation_ns), np.array(tick_ns), sent)
    return [int(i) if f else None for i, f in zip(index, found, strict=True)]


@pytest.mark.parametrize("delay", [0, 1, 49, 50, 51, 130])
def test_a_policy_of_known_delay_shows_no_shift_by_one(delay: int) -> None:
    ticks = [1000 + 50 * k for k in range(20)]
    sent = commands(*((tick + delay, tick) for tick in ticks))
    assert match(ticks, ticks, sent) == list(range(20))


@pytest.mark.parametrize("delay", [0, 1, 49])
def test_without_observation_stamps_the_first_command_after_the_tick_is_taken(delay: int) -> None:
    ticks = [1000 + 50 * k for k in range(20)]
    sent = commands(*((tick + delay, 0) for tick in ticks))
    assert match(ticks, ticks, sent) == list(range(20))


def test_a_tick_without_a_command_before_the_next_has_none() -> None:
    assert match([10, 20, 30], [10, 20, 30], commands((10, 0), (35, 0))) == [0, None, 1]
    assert match([10], [10], commands()) == [None]


def test_a_repeated_frame_takes_the_command_sent_after_its_own_tick() -> None:
    sent = commands((11, 5), (21, 5), (31, 25))
    assert match([5, 5, 25], [10, 20, 30], sent) == [0, 1, 2]
    assert match([5, 5], [10, 20], commands((11, 5))) == [0, 0]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(0, 60)), max_size=20),
    st.lists(st.integers(1, 60), min_size=1, max_size=12, unique=True),
    st.lists(st.integers(0, 9), min_size=12, max_size=12),
)
def test_matching_is_what_its_definition_says(
    pairs: list[tuple[int, int]], ticks: list[int], lags: list[int]
) -> None:
    pairs, ticks = sorted(pairs), sorted(ticks)
    observed = [max(1, t - lag) for t, lag in zip(ticks, lags, strict=False)]
    got = match(observed, ticks, commands(*pairs))
    for k, (tick, observation) in enumerate(zip(ticks, observed, strict=True)):
        same = [n for n, (_, of) in enumerate(pairs) if of == observation]
        later = [n for n, (at, _) in enumerate(pairs) if at >= tick]
        until = ticks[k + 1] if k + 1 < len(ticks) else 10**9
        if same:
            want = next((n for n in same if pairs[n][0] >= tick), same[-1])
        else:
            want = later[0] if later and pairs[later[0]][0] < until else None
        assert got[k] == want
