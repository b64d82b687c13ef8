"""The Node that runs other people's clients and suites; the dev extra brings one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

NODE = (22, 19)


def environment() -> dict[str, str]:
    """This environment with a recent Node first on its PATH; skips the test without one."""
    places = [Path(sys.executable).parent / "node", shutil.which("node")]
    for place in filter(None, places):
        if _version(place) >= NODE:
            path = f"{Path(place).parent}{os.pathsep}{os.environ['PATH']}"
            return {**os.environ, "PATH": path}
    return pytest.skip("needs Node >= 22.19; pip install 'byheart[dev]' brings one")


def installed(package: str, folder: Path) -> Path:
    """The folder of the commands that an npm package brings; skips the test if npm can't."""
    env = environment()
    npm = shutil.which("npm", path=env["PATH"])
    if npm is None:
        pytest.skip("needs npm beside Node")
    install = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder), package]
    done = subprocess.run(install, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"npm could not install {package}: {done.stderr.strip()[-200:]}")
    return folder / "node_modules" / ".bin"


def _version(place: str | Path) -> tuple[int, int]:
    try:
        done = subprocess.run([place, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return (0, 0)
    major, minor, *_ = done.stdout.strip().lstrip("v").split(".")
    return (int(major), int(minor))
