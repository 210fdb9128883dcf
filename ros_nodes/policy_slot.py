"""The bundle that a policy node runs, and the exchange of it for another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from episodes.contract import Contract
from policy.runtime.bundle import Bundle
from policy.runtime.infer import Policy
from policy.runtime.manifest import TASK_STREAM


@dataclass(frozen=True)
class Slot:
    """A verified bundle, warmed up."""

    bundle: Bundle
    policy: Policy
    streams: tuple[str, ...]
    """The observation streams that it reads, and the contract's reference stream."""
    execute_ns: int
    """Time from one inference to the next."""
    instruction_bytes: int
    """Length of the instruction that it takes; 0 for none."""

    @classmethod
    def load(
        cls,
        path: str,
        contract: Contract,
        *,
        allow_looser_limits: bool,
        threads: int,
        providers: Sequence[str] = (),
    ) -> Slot:
        """Verify a bundle (hashes, interface, limits, parity), open it and run it some times on zeros.

        `providers` are onnxruntime's, in order; empty: those of the manifest that are on this machine.

        Raises:
            BundleError: it is damaged, does not fit the robot, or onnxruntime refuses it.
            MachineError: none of its execution providers is on this machine, or one that is asked for is not.
        """
        bundle = Bundle.load(path, robot_contract=contract, allow_looser_limits=allow_looser_limits)
        policy = Policy(bundle, providers or None, threads)
        takes = [t.shape[0] for t in bundle.manifest.inputs if t.stream == TASK_STREAM]
        told = bool(takes) and TASK_STREAM not in contract.observations
        read = [name for name in policy.streams if not (told and name == TASK_STREAM)]
        return cls(
            bundle=bundle,
            policy=policy,
            streams=tuple(dict.fromkeys((*read, contract.reference))),
            execute_ns=bundle.manifest.chunk_execute * contract.period_ns,
            instruction_bytes=takes[0] if told else 0,
        )

    @property
    def label(self) -> str:
        """For people."""
        manifest = self.bundle.manifest
        provider = self.policy.providers[0]
        if lacks := ", ".join(self.policy.passed_over):
            provider += f", since this machine does not start {lacks}"
        return f"bundle {manifest.name} ({manifest.algorithm}, {self.bundle.sha256[:12]}) on {provider}"
