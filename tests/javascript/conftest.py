"""Node, and the npm packages of the tests, which are installed once into a cache outside the tree."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STATIC = ROOT / "fastws_compat" / "static" / "fastws"
PACKAGES = ("ws@8.23.0", "typescript@7.0.2")

Node = Callable[..., None]


def executable(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"no {name} on this machine (Debian: apt-get install nodejs npm)")
    return path


def installed(*packages: str) -> Path:
    """The directory `node_modules` with npm packages; a second test run on this machine finds it there."""
    npm = executable("npm")
    key = sha256(" ".join(packages).encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"fastws-npm-{os.getuid()}-{key}"
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process of this test run may need the same packages
        if not (folder / "complete").exists():
            install(npm, folder, packages)
    return folder / "node_modules"


def install(npm: str, folder: Path, packages: tuple[str, ...]) -> None:
    command = [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run([*command, *packages], capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"npm could not install {', '.join(packages)}: {done.stderr[-500:]}")
    (folder / "complete").touch()


@pytest.fixture(scope="session")
def npm_packages() -> Path:
    return installed(*PACKAGES)


@pytest.fixture(scope="session")
def asyncapi_parser() -> Path:
    return installed("@asyncapi/parser@3.6.6")


@pytest.fixture
def node_tests(tmp_path: Path) -> Node:
    """Runs a file of tests in Node; LIVE is the URL of the module under test."""
    node = executable("node")
    # Without a package.json, Node takes a file for an ES module only if its name says so.
    shutil.copy(STATIC / "live.js", tmp_path / "live.mjs")

    def run(name: str, timeout: float = 120, **environment: str) -> None:
        env = {
            **os.environ,
            "LIVE": (tmp_path / "live.mjs").as_uri(),
            "PYTHON": sys.executable,
            **environment,
        }
        env["ROOT"] = str(ROOT)
        command = [node, "--test", str(Path(__file__).with_name(name))]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=timeout)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "\n# pass 0" not in done.stdout

    return run
