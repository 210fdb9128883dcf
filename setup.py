"""Package for pip and for colcon (ament_python). Folder = import name; nothing is remapped."""

from pathlib import Path

from setuptools import find_packages, setup

# In a symlink build this file is a link in the build folder; the sources are where it points to.
ROOT = Path(__file__).resolve().parent
NODES = sorted(path.stem for path in (ROOT / "ros_nodes").glob("*_node.py"))
FOLDERS = ("episodes", "policy", "reward", "sim", "ros_nodes", "bench")


def shared(folder: str, *patterns: str) -> tuple[str, list[str]]:
    """Files of `folder` that go to share/armchair/<folder>."""
    return f"share/armchair/{folder}", sorted(
        str(p) for pattern in patterns for p in Path(folder).glob(pattern)
    )


setup(
    name="armchair",
    version="0.1.0",
    description="Teach a robot arm from recordings, with a vision-language model as the armchair critic.",
    license="Apache-2.0",
    python_requires=">=3.11,<3.13",
    packages=find_packages(include=[pattern for name in FOLDERS for pattern in (name, f"{name}.*")]),
    py_modules=["armchair"],
    package_data={
        "reward": ["prompts/*.yaml"],
        "reward.clients": ["*.yaml"],
        "reward.review": ["static/*"],
        "bench": ["*.css"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/armchair"]),
        ("share/armchair", ["package.xml"]),
        shared("launch", "*.launch.py", "*.xml"),
        shared("launch/contracts", "*.yaml"),
        shared("launch/params", "*.yaml"),
    ],
    install_requires=["setuptools"],
    extras_require={
        "test": ["pytest"],
        "view": ["rerun-sdk>=0.41,<0.42"],
        # Runs on MuJoCo 3.3 to 3.10 and brings PettingZoo along: for those who want Fetch, and not locked.
        "fetch": ["gymnasium-robotics==1.4.2"],
        "wandb": ["wandb>=0.31"],
    },
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "armchair = armchair:main",
            *(f"{node} = ros_nodes.{node}:main" for node in NODES),
        ]
    },
)
