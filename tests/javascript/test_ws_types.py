"""Generated clients: under `tsc --strict`, and in Node against daphne and uvicorn."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from fastws_compat import Call, FastAPI, Reply, TypedWebSocket
from fastws_compat.schema import typescript
from fastws_compat.schema.description import Site
from tests import zoo
from tests.described import sites
from tests.servers.conftest import Running, command, free_port, wait_until_ready

from .conftest import ROOT, Node, executable
from .test_live import FLAGS, RESOLUTIONS, TARGET

EMIT = [flag for flag in FLAGS if flag != "--noEmit"]


def write(site: Site, file: Path) -> None:
    """Write the client of a site into a file that ends in .ts or .js."""
    for suffix, text in typescript.files(typescript.Client(site), file.suffix).items():
        (file.with_suffix(suffix) if suffix else file).write_text(text)


def compile_strictly(
    modules: Path, folder: Path, resolution: list[str], *names: str, options: list[str] = FLAGS
) -> None:
    executable("node")
    (folder / "package.json").write_text('{"type": "module"}')
    command = [str(modules / ".bin" / "tsc"), *options, *TARGET, *resolution, *names]
    checked = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.node
@pytest.mark.parametrize("suffix", [".js", ".ts"])
@pytest.mark.parametrize("resolution", RESOLUTIONS, ids=["nodenext", "bundler"])
def test_what_a_page_may_write(
    npm_packages: Path, tmp_path: Path, resolution: list[str], suffix: str
) -> None:
    write(Site(zoo.app), tmp_path / f"sockets{suffix}")
    shutil.copy(Path(__file__).with_name("sockets.ts"), tmp_path / "page.ts")
    compile_strictly(npm_packages, tmp_path, resolution, "page.ts")


class Done(Reply):
    op: Literal[2] = 2


class Ask(Call[Done]):
    op: Literal[1] = 1


class Sure(Reply):
    sure: Literal[True] = True


class Really(Call[Sure]):
    sure: Literal[False] = False


TAGS = """
import { connect } from "./sockets.js";

const numbers = connect("/numbers");
numbers.on(2, (message) => message.op satisfies 2);
numbers.on("error", (message) => message.status satisfies number);
// @ts-expect-error: the tag is a number
numbers.on("2", (message) => message);
(await numbers.request({ op: 1 })).op satisfies 2;
const booleans = connect("/booleans");
booleans.on(true, (message) => message.sure satisfies true);
(await booleans.request({ sure: false })).sure satisfies true;
const none = connect("/none");
none.on("message", (message) => message);
// @ts-expect-error: nothing tells what is a request
none.request([1]);
"""


@pytest.mark.node
def test_tags_that_are_no_texts(npm_packages: Path, tmp_path: Path) -> None:
    app = FastAPI()

    @app.websocket("/numbers")
    async def numbers(websocket: TypedWebSocket[Ask, Done]) -> None: ...

    @app.websocket("/booleans")
    async def booleans(websocket: TypedWebSocket[Really, Sure]) -> None: ...

    @app.websocket("/none")
    async def none(websocket: TypedWebSocket[list[int] | dict[str, int], list[int]]) -> None: ...

    write(Site(app), tmp_path / "sockets.ts")
    (tmp_path / "page.ts").write_text(TAGS)
    compile_strictly(npm_packages, tmp_path, RESOLUTIONS[0], "page.ts")


@pytest.mark.node
def test_every_site(npm_packages: Path, tmp_path: Path) -> None:
    """The declarations and the modules of each site, in TypeScript and in JavaScript."""
    for name, site in sites().items():
        write(site, tmp_path / f"{name}.js")
        write(site, tmp_path / f"{name}_all.ts")
    declared = [path.name for path in tmp_path.glob("*.ts")]
    scripts = [path.name for path in tmp_path.glob("*.js")]
    assert len(declared) == 2 * len(scripts) > 6
    compile_strictly(npm_packages, tmp_path, RESOLUTIONS[1], *declared)
    compile_strictly(npm_packages, tmp_path, [*RESOLUTIONS[1], "--allowJs", "--checkJs"], *scripts)


@pytest.fixture(params=["daphne", "uvicorn"])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where the zoo is served."""
    port = free_port()
    server = [sys.executable, "-m", *command(request.param, port), "tests.javascript.zoo_site:application"]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "wsproject.settings"}
    log = tempfile.NamedTemporaryFile(prefix="fastws-zoo-", suffix=".log")  # noqa: SIM115
    process = subprocess.Popen(server, cwd=ROOT, env=environment, stdout=log, stderr=log)
    running = Running(process, port=port, log=log)
    try:
        wait_until_ready(running)
        yield f"ws://127.0.0.1:{port}"
    finally:
        running.stop()


@pytest.mark.node
@pytest.mark.servers
@pytest.mark.parametrize("suffix", [".js", ".ts"])
def test_against_a_server(
    node_tests: Node, npm_packages: Path, tmp_path: Path, address: str, suffix: str
) -> None:
    folder = tmp_path / "client"
    folder.mkdir()
    write(Site(zoo.app), folder / f"sockets{suffix}")
    if suffix == ".ts":
        compile_strictly(npm_packages, folder, RESOLUTIONS[0], "sockets.ts", options=EMIT)
    (folder / "package.json").write_text('{"type": "module"}')
    wrapper = (npm_packages / "ws" / "wrapper.mjs").as_uri()
    node_tests("sockets.test.mjs", 300, WS=wrapper, BASE=address, SOCKETS=(folder / "sockets.js").as_uri())
