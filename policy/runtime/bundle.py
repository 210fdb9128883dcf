"""A policy bundle: the folder that a robot loads, verified before anything in it is used.

    bundle/
    ├── manifest.json   inputs, outputs, rate, chunk, hashes (`manifest.Manifest`)
    ├── policy.onnx     one file, weights and normalisation inside
    ├── contract.yaml   the robot contract that the policy was trained under
    └── parity.json     PyTorch against ONNX on recorded observations

Files are read once; what was hashed is what runs, so nothing can be exchanged in between.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from episodes.contract import Contract, check_compatible, parse_contract
from episodes.errors import BundleError, ContractError
from policy.runtime.bundle_checks import (
    Parity,
    action_channels,
    check_contract,
    check_graph,
    check_parity,
)
from policy.runtime.bundle_files import (
    EXPORT_ANEW,
    decode_text,
    read_file,
    read_verified,
    swap_in,
    sync_folder,
)
from policy.runtime.manifest import (
    CONTRACT_FILE,
    DEFAULT_PROVIDERS,
    MANIFEST_FILE,
    MODEL_FILE,
    PARITY_FILE,
    Manifest,
    TensorSpec,
    parse_manifest,
)

__all__ = ["Bundle", "Parity", "TensorSpec", "write_bundle_files"]


@dataclass(frozen=True)
class Bundle:
    """A verified bundle. `contract` is the one that the policy was trained under."""

    path: Path
    manifest: Manifest
    contract: Contract
    parity: Parity
    sha256: str
    """Hash of manifest.json, which holds the hashes of all other files: it names the bundle."""
    model: bytes = field(repr=False)
    """The verified bytes of policy.onnx."""

    @classmethod
    def load(
        cls,
        path: Path | str,
        robot_contract: Contract | None = None,
        allow_looser_limits: bool = False,
    ) -> Bundle:
        """Read and verify the bundle in folder `path`, and against `robot_contract` where one is given.

        With a robot contract its interface must be the trained one, and its limits may be equal or tighter;
        looser ones need `allow_looser_limits`.

        Raises:
            BundleError: naming file, key, value and how to mend it, for a file that is missing, damaged, a
                link or outside the folder; a manifest, contract or parity report that is wrong; a graph that
                differs from the manifest or names further files; a robot that does not fit.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise BundleError(
                f"{folder}: there is no such bundle folder. Give the folder that `armchair export` wrote."
            )
        manifest_bytes = read_file(folder, MANIFEST_FILE)
        manifest = parse_manifest(
            decode_text(manifest_bytes, folder / MANIFEST_FILE), str(folder / MANIFEST_FILE)
        )
        contents = {name: read_verified(folder, name, digest) for name, digest in manifest.files.items()}
        contract_text = decode_text(contents[CONTRACT_FILE], folder / CONTRACT_FILE)
        try:
            contract = parse_contract(contract_text, str(folder / CONTRACT_FILE))
        except ContractError as error:
            raise BundleError(f"{error} {EXPORT_ANEW}") from error
        check_contract(manifest, contract, folder / MANIFEST_FILE)
        parity = check_parity(decode_text(contents[PARITY_FILE], folder / PARITY_FILE), folder / PARITY_FILE)
        check_graph(manifest, contents[MODEL_FILE], folder / MODEL_FILE)
        if robot_contract is not None:
            try:
                check_compatible(contract, robot_contract, allow_looser_limits=allow_looser_limits)
            except ContractError as error:
                raise BundleError(f"{folder}: the bundle does not fit this robot: {error}") from error
        digest = hashlib.sha256(manifest_bytes).hexdigest()
        return cls(folder, manifest, contract, parity, digest, contents[MODEL_FILE])


def write_bundle_files(
    folder: Path | str,
    *,
    name: str,
    algorithm: str,
    created_utc: str,
    model: bytes,
    contract: Contract,
    inputs: Sequence[TensorSpec],
    parity: Mapping[str, object],
    provenance: Mapping[str, object],
    chunk_length: int = 1,
    chunk_execute: int = 1,
    providers: Sequence[str] = DEFAULT_PROVIDERS,
) -> Bundle:
    """Write a bundle folder in one step: it is complete and verified, or whatever was there stays.

    `model` are the bytes of the ONNX file; its output is `action`, float32 (batch, chunk_length, action dim).
    `parity` holds at least samples, max_abs_difference, tolerance and holds.

    Raises:
        BundleError: what was given would be refused by `Bundle.load`, or `folder` holds something else.
    """
    folder = Path(folder).resolve()
    replaceable = folder.is_dir() and ((folder / MANIFEST_FILE).is_file() or not any(folder.iterdir()))
    if folder.exists() and not replaceable:
        raise BundleError(
            f"{folder}: this holds other things and is not replaced by a bundle. Give a new one."
        )
    contents = {
        MODEL_FILE: model,
        CONTRACT_FILE: contract.text.encode(),
        PARITY_FILE: _json_bytes(parity, "parity"),
    }
    manifest = Manifest(
        name=name,
        created_utc=created_utc,
        algorithm=algorithm,
        inputs=tuple(inputs),
        output=TensorSpec("action", "float32", (chunk_length, contract.action_dim)),
        rate_hz=contract.rate_hz,
        chunk_length=chunk_length,
        chunk_execute=chunk_execute,
        action_channels=action_channels(contract),
        interface_sha256=contract.interface_sha256,
        limits_sha256=contract.limits_sha256,
        provenance=provenance,
        files={file: hashlib.sha256(data).hexdigest() for file, data in contents.items()},
        providers=tuple(providers),
    )
    contents[MANIFEST_FILE] = _json_bytes(manifest.as_json(), "manifest")
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        fresh.chmod(0o755)
        for file, data in contents.items():
            with open(fresh / file, "xb") as out:
                out.write(data)
                out.flush()
                os.fsync(out.fileno())
        sync_folder(fresh)
        Bundle.load(fresh)
        swap_in(fresh, folder)
    except BundleError as error:
        raise BundleError(str(error).replace(str(fresh), str(folder))) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    sync_folder(folder.parent)
    return Bundle.load(folder)


def _json_bytes(data: Mapping[str, object], what: str) -> bytes:
    try:
        return (json.dumps(dict(data), indent=2, allow_nan=False) + "\n").encode()
    except (ValueError, TypeError) as error:
        raise BundleError(
            f"the {what} of the new bundle cannot be written as JSON ({error}). A NaN here means that the "
            "network or its graph returns non-finite numbers; everything else must be plain JSON values."
        ) from error
