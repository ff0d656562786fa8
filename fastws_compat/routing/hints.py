"""Which path was meant: for the log line of a path that no route has."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fastws_compat.routing.paths import PARAM


def nearest(path: str, templates: Iterable[str]) -> str | None:
    """The template that `path` comes closest to, if any comes close; what its parameters are is no matter."""
    import difflib  # for a mistake only; it is slow to import

    filled = {_filled(template, path): template for template in templates}
    close = difflib.get_close_matches(path, filled, n=1)
    return filled[close[0]] if close else None


def _filled(template: str, path: str) -> str:
    """The template with its parameters taken from the same segments of `path`."""
    segments = path.split("/")
    return "/".join(
        segments[index] if index < len(segments) and _is_param(segment) else segment
        for index, segment in enumerate(template.split("/"))
    )


def _is_param(segment: str) -> bool:
    return re.fullmatch(PARAM, segment) is not None
