"""If FASTWS_NO_SKIP is set (in CI), a test without its browser or server fails instead of skipping."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from channels.layers import channel_layers
from django.core.signals import request_started
from django.db.models.signals import post_delete
from hypothesis import settings as hypothesis_settings

from fastws_compat.connections import census, hooks, registry, tally

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts a command in the background this way; servers that tests start would ignore Ctrl-C too.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Hundreds of servers and commands are started. Each would compile Django, Twisted and this package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

NO_SKIP = bool(os.environ.get("FASTWS_NO_SKIP"))

# A busy machine takes longer than the default of 200 ms for an example.
hypothesis_settings.register_profile("without a deadline", deadline=None)
hypothesis_settings.load_profile("without a deadline")

# The files that take longest, the slowest first.
SLOW_FILES = (
    "servers/test_storm.py",
    "servers/test_django_users.py",
    "servers/test_threads.py",
    "servers/test_operations.py",
    "servers/test_tenants.py",
    "browser/test_docs_page.py",
    "servers/test_faults.py",
    "servers/test_presence.py",
    "servers/test_groups.py",
    "servers/test_live_server.py",
    "servers/test_lookups.py",
    "browser/test_demo.py",
    "servers/test_recovery.py",
    "servers/test_runserver.py",
    "servers/test_daphne_pressure.py",
    "servers/test_daphne_endings.py",
    "servers/test_wire_fuzz.py",
    "servers/test_loops.py",
    "browser/test_operations.py",
    "browser/test_demo_recovery.py",
    "browser/test_deployment.py",
    "test_found_sockets.py",
    "javascript/test_live.py",
    "test_foreign.py",
    "upstream/test_upstream.py",
    "parity/test_properties.py",
    "test_tutorial.py",
    "browser/test_recovery.py",
    "servers/test_daphne_deflate.py",
)


def _refuse_skip(report: Any) -> None:
    if NO_SKIP and report.outcome == "skipped":
        report.outcome = "failed"
        report.longrepr = f"Nothing may be skipped here: {report.longrepr[2]}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    report = yield
    # A mark depends on the interpreter's version, and is evaluated before anything runs.
    if item.get_closest_marker("skipif") is None:
        _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    report = yield
    _refuse_skip(report)
    return report


@pytest.fixture(autouse=True, scope="session")
def options_of_this_run() -> None:
    """Hide the options of this run, such as coverage, from the projects that tests run pytest in."""
    for name in [name for name in os.environ if name.startswith(("PYTEST_ADDOPTS", "PYTEST_XDIST_"))]:
        del os.environ[name]


@pytest.fixture(autouse=True, scope="module")
def measured_processes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave the processes that a module marked `unmeasured` starts out of the coverage.

    Coverage doubles the time that a server with Django takes to start, and slows down all that it does.
    """
    with pytest.MonkeyPatch.context() as patch:
        if request.node.get_closest_marker("unmeasured"):
            patch.setenv("COVERAGE_PROCESS_CONFIG", "")
        yield


@pytest.fixture(autouse=True)
def no_operators(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the operations app, which the demo's settings install, off the channel layers of other tests."""
    if "operations" not in request.node.path.name:
        monkeypatch.setattr(registry, "on_begin", [])


@pytest.fixture(autouse=True)
def fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin each test as a new process does: with an empty channel layer, and with nothing that counts."""
    channel_layers.backends.clear()
    census._totals.clear()
    census._ended.clear()
    census._exceptions.clear()
    monkeypatch.setattr(census, "_readers", 0)
    for module, name in ((census, "is_on"), (tally, "is_thorough")):
        monkeypatch.setattr(module, name, False)
    for name in ("begun", "answered", "ended", "failed", "refused", "sent"):
        monkeypatch.setattr(hooks, name, [])
    for name in ("sending", "delivering"):
        monkeypatch.setattr(hooks, name, None)


@pytest.fixture(autouse=True)
def no_request_yet() -> None:
    """Begin each test without the receivers that the first request of a process connects."""
    from django.contrib.sessions.models import Session

    from fastws_compat.logins import deletions

    request_started.disconnect(dispatch_uid=deletions.LISTEN)
    post_delete.disconnect(sender=Session, dispatch_uid=deletions.DELETED)


def pytest_configure(config: pytest.Config) -> None:
    """Leave slow tests out unless they are asked for, whatever else `-m` says.

    Also have pytest-xdist keep the order of the files: by default, it begins with those of the most tests.
    """
    chosen: str = config.option.markexpr
    if "slow" not in chosen:
        config.option.markexpr = f"({chosen}) and not slow" if chosen else "not slow"
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_finish() -> None:
    """Exempt from garbage collection what pytest has collected, because it lives until the end."""
    gc.collect()
    gc.freeze()


def _slowness(item: pytest.Item) -> int:
    name = item.path.as_posix().rpartition("/tests/")[2]
    return SLOW_FILES.index(name) if name in SLOW_FILES else len(SLOW_FILES)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slow files first: a worker takes a whole file, and none is left alone with one at the end.

    Refuse names that differ between processes: those of pytest-xdist compare what they have collected.
    """
    items.sort(key=_slowness)
    if changing := [item.nodeid for item in items if " at 0x" in item.nodeid]:
        raise pytest.UsageError(f"The names of these tests contain addresses: {', '.join(changing)}")
