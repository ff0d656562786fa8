"""`static/fastws/live.js`: its size, its types, and its tests in Node."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import STATIC, Node, executable

FLAGS = ["--noEmit", "--strict", "--noUncheckedIndexedAccess", "--exactOptionalPropertyTypes"]
TARGET = ["--target", "es2022", "--lib", "es2023,dom"]
RESOLUTIONS = [["--module", "nodenext"], ["--module", "esnext", "--moduleResolution", "bundler"]]


def test_it_is_small() -> None:
    source = (STATIC / "live.js").read_text()
    assert len(source.splitlines()) <= 450
    assert len(source.encode()) <= 16 * 1024
    assert max(map(len, source.splitlines())) <= 110


def test_it_needs_no_build_step_and_no_policy() -> None:
    source = (STATIC / "live.js").read_text()
    assert not re.search(r"^\s*import\b|\bimport\(|\beval\(|new Function|innerHTML", source, re.MULTILINE)


@pytest.mark.node
@pytest.mark.parametrize("name", ["live.test.mjs", "groups.test.mjs", "documented.test.mjs"])
def test_against_a_scripted_server_and_clock(node_tests: Node, name: str) -> None:
    node_tests(name)


@pytest.mark.node
@pytest.mark.servers
def test_against_daphne(node_tests: Node, npm_packages: Path) -> None:
    node_tests("daphne.test.mjs", 600, WS=(npm_packages / "ws" / "wrapper.mjs").as_uri())


@pytest.mark.node
@pytest.mark.parametrize("resolution", RESOLUTIONS, ids=["nodenext", "bundler"])
def test_type_declarations(npm_packages: Path, tmp_path: Path, resolution: list[str]) -> None:
    executable("node")
    for source in (STATIC / "live.js", STATIC / "live.d.ts", Path(__file__).with_name("types.ts")):
        shutil.copy(source, tmp_path)
    command = [str(npm_packages / ".bin" / "tsc"), *FLAGS, *TARGET, *resolution, "types.ts"]
    checked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.node
def test_it_passes_checkjs(npm_packages: Path, tmp_path: Path) -> None:
    """The file has no types of its own: those of a generated client pass `--strict` (test_ws_types.py)."""
    executable("node")
    shutil.copy(STATIC / "live.js", tmp_path)
    options = ["--noEmit", "--allowJs", "--checkJs", "--strict", "false"]
    command = [str(npm_packages / ".bin" / "tsc"), *options, *TARGET, *RESOLUTIONS[1], "live.js"]
    checked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert checked.returncode == 0, checked.stdout
