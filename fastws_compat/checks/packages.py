"""The versions of installed packages."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

from fastws_compat.daphne.versions import leading_numbers


def version(package: str) -> str:
    """The version of an installed distribution; empty if it is not installed."""
    try:
        return installed_version(package)
    except PackageNotFoundError:
        return ""


def major(package: str) -> int:
    return next(iter(leading_numbers(version(package))), 0)
