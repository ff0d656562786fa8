"""Generated clients: under `tsc --strict`, and in Node against daphne."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastws_compat.schema import typescript
from fastws_compat.schema.description import Site
from tests import zoo
from tests.described import sites
from tests.servers.conftest import free_port

from .conftest import ROOT, Node, executable
from .test_live import FLAGS, RESOLUTIONS, TARGET


def write(site: Site, file: Path) -> None:
    for suffix, text in typescript.module(typescript.Client(site)).items():
        (file.with_suffix(suffix) if suffix else file).write_text(text)


def compile_strictly(modules: Path, folder: Path, resolution: list[str], *names: str) -> None:
    executable("node")
    (folder / "package.json").write_text('{"type": "module"}')
    command = [str(modules / ".bin" / "tsc"), *FLAGS, *TARGET, *resolution, *names]
    checked = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.node
@pytest.mark.parametrize("resolution", RESOLUTIONS, ids=["nodenext", "bundler"])
def test_what_a_page_may_write(npm_packages: Path, tmp_path: Path, resolution: list[str]) -> None:
    write(Site(zoo.app), tmp_path / "sockets.js")
    shutil.copy(Path(__file__).with_name("sockets.ts"), tmp_path / "page.ts")
    compile_strictly(npm_packages, tmp_path, resolution, "page.ts")


@pytest.mark.node
def test_every_site(npm_packages: Path, tmp_path: Path) -> None:
    for name, site in sites().items():
        write(site, tmp_path / f"{name}.js")
    declarations = [path.name for path in tmp_path.glob("*.d.ts")]
    assert len(declarations) > 3
    compile_strictly(npm_packages, tmp_path, RESOLUTIONS[1], *declarations)


@pytest.fixture
def daphne() -> Iterator[str]:
    port = free_port()
    command = [
        "-m",
        "daphne",
        "--bind",
        "127.0.0.1",
        "--port",
        str(port),
        "tests.javascript.zoo_site:application",
    ]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "wsproject.settings"}
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment)
    try:
        wait_until_open(process, port)
        yield f"ws://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=60)


def wait_until_open(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail("daphne did not start")


@pytest.mark.node
@pytest.mark.servers
def test_against_daphne(node_tests: Node, npm_packages: Path, tmp_path: Path, daphne: str) -> None:
    folder = tmp_path / "client"
    folder.mkdir()
    (folder / "package.json").write_text('{"type": "module"}')
    write(Site(zoo.app), folder / "sockets.js")
    wrapper = (npm_packages / "ws" / "wrapper.mjs").as_uri()
    node_tests("sockets.test.mjs", 300, WS=wrapper, BASE=daphne, SOCKETS=(folder / "sockets.js").as_uri())
