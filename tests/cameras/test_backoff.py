"""Waits between attempts grow, stay bounded, are not equal, and begin anew after a success."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from ros_nodes.cameras.backoff import Backoff

S = 1_000_000_000


@given(st.integers(0, 2**32), st.integers(1, S), st.integers(1, 60 * S), st.integers(1, 40))
def test_each_wait_is_drawn_from_the_upper_half_of_a_step_that_doubles_up_to_the_longest(
    seed: int, first: int, longest: int, failures: int
) -> None:
    backoff = Backoff(first, longest, rng=random.Random(seed))
    for k in range(failures):
        step = min(min(first, longest) * 2**k, longest)
        assert step - step // 2 <= backoff.failed() <= step


def test_two_cameras_that_fail_together_do_not_try_together_and_success_begins_anew() -> None:
    one, other = (Backoff(rng=random.Random(seed)) for seed in (1, 2))
    assert [one.failed() for _ in range(8)] != [other.failed() for _ in range(8)]
    one.worked()
    assert one.failed() <= 250_000_000
