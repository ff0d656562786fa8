"""If FASTWS_NO_SKIP is set (in CI), a test without its browser or server fails instead of skipping."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest

NO_SKIP = bool(os.environ.get("FASTWS_NO_SKIP"))


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
