"""The documentation site in build/site. Where it has not been built, these tests are not collected."""

from __future__ import annotations

from pathlib import Path

from tests.browser.conftest import browser, flags

__all__ = ["browser", "flags"]  # fixtures

SITE = Path(__file__).resolve().parents[2] / "build" / "site"
collect_ignore = [] if SITE.is_dir() else ["test_site.py"]
