"""An environment of its own for a peer, beside the running one.

The peer and what it needs on top are installed without their dependencies; the rest (torch, numpy, h5py)
comes from the environment that runs the bench, which a .pth file names. So both sides of a comparison run on
the same libraries, nothing of the peer enters our environment, and no gigabytes are installed twice.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from episodes.errors import MachineError

ROBOMIMIC = (
    "robomimic==0.3.0",
    "torchvision==0.29.2",
    "termcolor",
    "tensorboardX",
    "psutil",
    "tqdm",
    "imageio",
    "six",
)
"""robomimic, and what it needs that we do not. Its egl_probe is only for rendering, which is not used. Of
torchvision the version that is built for the torch of requirements.lock: another one does not import."""
D3RLPY = (
    "d3rlpy==2.8.1",
    "gymnasium==1.0.0",
    *("gym==0.26.2", "gym-notices", "structlog", "colorama", "scikit-learn", "joblib", "threadpoolctl"),
    *("narwhals", "dataclasses-json", "marshmallow<4", "typing-inspect", "mypy-extensions"),
)
"""d3rlpy, and what it needs that we do not."""
WANDB = (
    "wandb==0.31.0",
    *(
        "cwevals",
        "click",
        "platformdirs",
        "pydantic",
        "pydantic-core",
        "annotated-types",
        "typing-inspection",
    ),
    *("opentelemetry-api", "opentelemetry-sdk", "opentelemetry-proto", "opentelemetry-semantic-conventions"),
    *("opentelemetry-exporter-http-transport", "opentelemetry-exporter-otlp-common"),
    *("opentelemetry-exporter-otlp-proto-common", "opentelemetry-exporter-otlp-proto-http"),
    *("googleapis-common-protos", "requests", "urllib3", "charset-normalizer", "xxhash", "sniffio", "distro"),
)
"""The client of Weights & Biases, and what it needs that we may not have."""
GENERATIVEAI = (
    *(
        "google-generativeai==0.8.6",
        "google-ai-generativelanguage==0.6.15",
        "protobuf<6",
        "grpcio-status<1.72",
    ),
    *("google-api-core<2.26", "google-api-python-client", "google-auth-httplib2", "httplib2", "uritemplate"),
    *("proto-plus", "googleapis-common-protos<1.71", "tqdm"),
)
"""google-generativeai with the protobuf that it is bound to."""
MANISKILL = (
    *(
        "mani_skill==3.0.1",
        "sapien==3.0.3",
        "trimesh",
        "transforms3d",
        "toppra",
        "mplib",
        "dacite",
        "tabulate",
    ),
    *("arm-pytorch-utilities", "pytorch-kinematics==0.7.6", "pytorch-seed", "nvidia-ml-py", "pyperclip"),
    *("lxml", "defusedxml", "GitPython", "gitdb", "smmap", "importlib_resources", "setuptools"),
    *("IPython", "ipython-pygments-lexers", "matplotlib-inline", "traitlets", "decorator", "jedi", "parso"),
    *(
        "pexpect",
        "ptyprocess",
        "prompt_toolkit",
        "wcwidth",
        "stack_data",
        "executing",
        "asttokens",
        "pure-eval",
    ),
)
"""ManiSkill 3, and what it needs that we do not."""

_ROOT = Path(__file__).resolve().parents[2]
_DONE = "installed.json"


def peer_python(folder: Path, requirements: Sequence[str]) -> Path:
    """The interpreter of the peer's environment in `folder`, made if it is not there with these requirements.

    Raises:
        MachineError: it cannot be made: no installer, or no network.
    """
    python, done = folder / "bin" / "python", folder / _DONE
    wanted = {"requirements": sorted(requirements), "base": sys.executable, "version": sys.version}
    if python.exists() and done.exists() and json.loads(done.read_text()) == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    uv = _uv()
    if uv is None:
        _run([sys.executable, "-m", "venv", str(folder)], folder)
        installer = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    else:
        _run([uv, "venv", "-q", "--python", sys.executable, str(folder)], folder)
        installer = [uv, "pip", "install", "-q", "--python", str(python)]
    own = subprocess.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    base = {sysconfig.get_paths()[key] for key in ("purelib", "platlib")}
    (Path(own) / "armchair_base.pth").write_text("\n".join(sorted(base)) + "\n")
    _run([*installer, "--no-deps", *requirements], folder)
    done.write_text(json.dumps(wanted))
    return python


def peer_environment_variables() -> dict[str, str]:
    """The variables to run a peer with: none by which this project would get into its imports."""
    return {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}


def _uv() -> str | None:
    own = _ROOT / ".bootstrap" / "bin" / "uv"
    return str(own) if own.exists() else shutil.which("uv")


def _run(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        last = " ".join((done.stderr or done.stdout).split()[-60:])
        raise MachineError(
            f"{folder}: the environment of the peer cannot be made ({' '.join(command[:6])} …: {last}). It "
            "needs a package index to install from, and uv or Python's venv."
        )
