"""Going on with one's own plan: what a policy that can do so is told (`policy.runtime.replan`)."""

from __future__ import annotations

from episodes.contract import Contract
from policy.runtime.chunks import Chunk, ChunkBuffer, ChunkConfig
from policy.runtime.infer import Timing
from policy.runtime.replan import PlanRequest
from policy.runtime.state import State

MARGIN_NS = 10_000_000
"""What lies between an inference and its chunk in force: transport, and the wait for control's tick."""


class OwnPlans:
    """The plan that control executes, as far as the policy knows: its own chunks, while control says POLICY.

    In any other state nothing that was planned is executed, so nothing of it is decided. Times are ROS time.
    """

    def __init__(self, contract: Contract, latency_ns: int) -> None:
        """`latency_ns` is control's `chunk.latency_s`."""
        self._buffer = ChunkBuffer(contract, ChunkConfig(latency_ns=latency_ns))
        self._period_ns = contract.period_ns
        self._followed = False

    def hear(self, state: str) -> None:
        """Control says what it does."""
        self._followed = state == State.POLICY

    def restart(self) -> None:
        """A new episode, or another policy."""
        self._buffer.restart()

    def request(self, observation_ns: int, now_ns: int, timing: Timing | None) -> PlanRequest:
        """What to ask of the policy for an observation; `timing` of its inferences so far."""
        if not self._followed:
            self._buffer.restart()
        expected_ns = (timing.p95_ns if timing is not None else 0) + MARGIN_NS
        return self._buffer.request(observation_ns, now_ns, expected_ns, self._period_ns)

    def sent(self, chunk: Chunk, now_ns: int) -> None:
        """A chunk is on its way to control."""
        self._buffer.push(chunk, now_ns)
