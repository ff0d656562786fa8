"""FastAPI's and Starlette's own tests of sockets, run on the library: only their imports are replaced.

They come with the source distributions of the installed versions. Nothing of them is part of this repository.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ET
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.upstream import port

ROOT = Path(__file__).resolve().parents[2]

# Modules without sockets, or about a feature that is HTTP's or belongs to an extra of the package.
SKIPPED_FILES = {
    "starlette": [
        "middleware/test_opentelemetry.py",
        "test_formparsers.py",
        "test_staticfiles.py",
        "middleware/test_wsgi.py",
    ],
    "fastapi": ["test_telemetry", "test_frontend.py", "test_dependency_concurrency.py"],
}

# Tests that mention a WebSocket and cannot pass here, with the reason. Each must fail.
HTTP_KINDS = ("http-error", "http-cancelled", "frontend-cancelled")
HTTP = "It sends HTTP requests too."
CANCELLED = "test_async_dependency_cleanup::test_cleanup_after_later_dependency_fails[asyncio"
EXPECTED: dict[str, dict[str, str]] = {
    "starlette": {
        "middleware.test_base::test_custom_middleware[asyncio]": HTTP,
        "test_applications::test_routes": "It compares HTTP routes.",
        "test_exceptions::test_websockets_should_raise[asyncio]": "ExceptionMiddleware is built in here.",
        "test_routing::test_protocol_switch[asyncio]": HTTP,
        "test_routing::test_url_path_for": "It asks for the paths of HTTP routes.",
        "test_routing::test_url_for": "It asks for the paths of HTTP routes.",
        "test_websockets::test_websocket_headers[asyncio]": "The installed httpx does not offer zstd either.",
        "test_websockets::test_send_denial_response_with_file_response[asyncio]": "Files are HTTP.",
    },
    "fastapi": {
        **{f"{CANCELLED}-{kind}-{scope}]": HTTP for kind in HTTP_KINDS for scope in ("function", "request")},
        "test_router_include_context::test_effective_api_route_context_does_not_match_websocket_scope": HTTP,
        "test_router_include_context::test_iter_route_contexts_returns_included_route_metadata"
        "[HTTPRoute-methods1]": "It is about HTTP routes.",
        "test_security_http_bearer::test_security_http_bearer_subclass_request_keyword": HTTP,
    },
}


@pytest.fixture(scope="module", params=["starlette", pytest.param("fastapi", marks=pytest.mark.slow)])
def package(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def sources(package: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution of the installed version, unpacked."""
    if find_spec("pip") is None:
        pytest.skip("pip is needed to download a source distribution")
    folder = tmp_path_factory.mktemp(package)
    name = f"{package}=={version(package)}"
    options = ["--quiet", "--no-deps", "--no-binary", ":all:", "--dest", str(folder)]
    result = subprocess.run([sys.executable, "-m", "pip", "download", *options, name], capture_output=True)
    archives = list(folder.glob("*.tar.gz"))
    if not archives:
        pytest.skip(f"pip cannot download {name}: {result.stderr.decode()[-300:]}")
    with tarfile.open(archives[0]) as archive:
        archive.extractall(folder, filter="data")
    return next(path for path in folder.iterdir() if path.is_dir())


@pytest.fixture(scope="module")
def outcomes(package: str, sources: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The outcome of each test of sockets: its name, and the text of its failure or ""."""
    folder = tmp_path_factory.mktemp(f"{package}_ported")
    for name in ("tests", "docs_src"):
        if (sources / name).is_dir():
            port.main(sources / name, folder / ("upstream_tests" if name == "tests" else name))
    tests = folder / "upstream_tests"
    for path in tests.rglob("test_*.py"):
        if "websocket" not in path.read_text().lower():
            path.unlink()
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider -p no:django\n")
    ignored = [f"--ignore={tests / name}" for name in SKIPPED_FILES[package]]
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.upstream.selection", f"--junitxml={report}"]
    process = subprocess.run(
        [*command, "--continue-on-collection-errors", *ignored, str(tests)],
        cwd=folder,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "wsproject.settings",
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        timeout=600,
    )
    assert report.exists(), process.stdout.decode()[-3000:] + process.stderr.decode()[-3000:]
    return dict(map(_outcome, ET.parse(report).iter("testcase")))


def _outcome(case: ET.Element) -> tuple[str, str]:
    name = f"{case.get('classname', '').removeprefix('upstream_tests.')}::{case.get('name')}"
    failures = [child for child in case if child.tag in ("failure", "error")]
    return name, "".join(f"{child.get('message')}\n{child.text}" for child in failures)


def test_sockets_of_upstream(package: str, outcomes: dict[str, str]) -> None:
    failed = {name: text for name, text in outcomes.items() if text}
    unexpected = {name: text for name, text in failed.items() if name not in EXPECTED[package]}
    assert not unexpected, "\n".join(f"{name}\n{text[-1500:]}" for name, text in unexpected.items())
    assert sorted(failed) == sorted(EXPECTED[package])
    assert len(outcomes) - len(failed) >= {"starlette": 60, "fastapi": 40}[package]
