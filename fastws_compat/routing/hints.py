"""Suggests the path that a client probably meant, for the log line about an unknown path."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fastws_compat.routing.paths import PARAM


def nearest(path: str, templates: Iterable[str]) -> str | None:
    """The template most similar to `path`, whatever the values of its parameters; None if none is similar."""
    import difflib  # slow to import, and only needed after a mistake

    filled = {_filled(template, path): template for template in templates}
    close = difflib.get_close_matches(path, filled, n=1)
    return filled[close[0]] if close else None


def _filled(template: str, path: str) -> str:
    """The template, each parameter replaced by the segment of `path` in the same position."""
    segments = path.split("/")
    return "/".join(
        segments[index] if index < len(segments) and _is_param(segment) else segment
        for index, segment in enumerate(template.split("/"))
    )


def _is_param(segment: str) -> bool:
    return re.fullmatch(PARAM, segment) is not None
