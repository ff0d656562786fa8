"""The counts of this process: its connections and messages by route, and its state."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fastws_compat
from fastws_compat import health
from fastws_compat.connections import census as counted
from fastws_compat.connections.census import Totals
from fastws_compat.layers.client import DEFAULT
from fastws_compat.layers.client import health as layer_health
from fastws_compat.logins.remote import shared_layer
from fastws_compat.operations import census
from fastws_compat.operations.census import OTHER, everybody, route_of, server_of, state_of, waiting_of

BEGUN = time.time()
STATM = Path("/proc/self/statm")

# What is added up, per route and for the process.
COUNTS = (
    "open",
    "handshaking",
    "waiting",
    "opened",
    "closed",
    "messages_in",
    "messages_out",
    "bytes_in",
    "bytes_out",
)


def totals() -> dict[str, Any]:
    """The counts of this process. Ended connections count from the first call on."""
    counted.is_on = True
    live, ended = counted.snapshot(lambda: [each.session for each in everybody()])
    routes: dict[str, dict[str, int]] = {}
    for template, sums in ended.items():
        _add(_of(routes, template), _of_ended(sums))
    for session in live:
        _add(_of(routes, route_of(session)), _of_live(session))
    layer = shared_layer()
    return {
        **_together(routes.values()),
        "routes": routes,
        "total": len(live),
        "server": next(filter(None, map(server_of, live)), None),
        "version": fastws_compat.__version__,
        "since": BEGUN,
        "rss": rss(),
        "layer": None if layer is None else type(layer).__name__,
        "layer_up": layer_health(DEFAULT).failing_since is None,
        "draining": health.is_draining(),
    }


def _of(routes: dict[str, dict[str, int]], template: str) -> dict[str, int]:
    """The counts of a route, or those of all others once the maximum number of routes is reached."""
    name = template if template in routes or len(routes) < census.max_routes() else OTHER
    return routes.setdefault(name, dict.fromkeys(COUNTS, 0))


def _add(counts: dict[str, int], more: dict[str, int | None]) -> None:
    for name, value in more.items():
        counts[name] += value or 0


def _of_ended(sums: Totals) -> dict[str, int | None]:
    return {
        "opened": sums.opened,
        "closed": sums.closed.total(),
        "messages_in": sums.messages_in,
        "messages_out": sums.messages_out,
        "bytes_in": sums.bytes_in,
        "bytes_out": sums.bytes_out,
    }


def _of_live(session: Any) -> dict[str, int | None]:
    is_open = state_of(session) != "handshaking"
    return {
        "open": int(is_open),
        "opened": int(is_open),
        "handshaking": int(not is_open),
        "waiting": waiting_of(session),
        "messages_in": session.messages_in,
        "messages_out": session.messages_out,
        "bytes_in": session.bytes_in,
        "bytes_out": session.bytes_out,
    }


def _together(routes: Iterable[dict[str, int]]) -> dict[str, int]:
    counts = dict.fromkeys(COUNTS, 0)
    for each in routes:
        _add(counts, {**each})
    return counts


def rss() -> int | None:
    """The memory of the process in bytes, on Linux."""
    try:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None
