"""What is installed, by its version."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

from fastws_compat import daphne


def version(package: str) -> str:
    """The version of an installed distribution; empty without one."""
    try:
        return installed_version(package)
    except PackageNotFoundError:
        return ""


def major(package: str) -> int:
    return next(iter(daphne.version(version(package))), 0)
