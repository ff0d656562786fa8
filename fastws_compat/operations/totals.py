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
from fastws_compat.connections.census import COUNTED, Totals
from fastws_compat.layers.client import DEFAULT
from fastws_compat.layers.client import health as layer_health
from fastws_compat.logins.remote import shared_layer
from fastws_compat.operations import census
from fastws_compat.operations.census import OTHER, everybody, route_of, server_of, state_of, waiting_of

BEGUN = time.time()
STATM = Path("/proc/self/statm")

# What is added up, per route and for the process.
COUNTS = ("open", "handshaking", "waiting", "opened", "closed", *COUNTED)

# By name; None for what is not known of every connection.
Counts = dict[str, int | None]


def totals() -> dict[str, Any]:
    """The counts of this process since the operations app was started."""
    live, routes = _counted()
    layer = shared_layer()
    return {
        **_together(routes.values()),
        "routes": routes,
        "total": len(live),
        "server": next(filter(None, map(server_of, live)), None),
        "version": fastws_compat.__version__,
        "since": BEGUN,
        "lag": counted.lag_p99(),
        "rss": rss(),
        "layer": None if layer is None else type(layer).__name__,
        "layer_up": layer_health(DEFAULT).failing_since is None,
        "draining": health.is_draining(),
    }


def traffic() -> dict[str, Any]:
    """What the list of sockets shows of this process: its messages, and how late its event loop is."""
    counts = _together(_counted()[1].values())
    return {
        "messages_in": counts["messages_in"],
        "messages_out": counts["messages_out"],
        "lag": counted.lag_p99(),
    }


def _counted() -> tuple[list[Any], dict[str, Counts]]:
    """The live connections, and the counts by route."""
    live, ended = counted.snapshot(lambda: [each.session for each in everybody()])
    routes: dict[str, Counts] = {}
    for template, sums in ended.items():
        _add(_of(routes, template), _of_ended(sums))
    for session in live:
        _add(_of(routes, route_of(session)), _of_live(session))
    return live, routes


def _of(routes: dict[str, Counts], template: str) -> Counts:
    """The counts of a route, or those of all others once the maximum number of routes is reached."""
    name = template if template in routes or len(routes) < census.max_routes() else OTHER
    fresh: Counts = dict.fromkeys(COUNTS, 0)
    return routes.setdefault(name, fresh)


def _add(counts: Counts, more: Counts) -> None:
    for name, value in more.items():
        counts[name] = None if None in (value, counts[name]) else (counts[name] or 0) + (value or 0)


def _of_ended(sums: Totals) -> Counts:
    known = {name: None if name in sums.unknown else getattr(sums, name) for name in COUNTED}
    return {"opened": sums.opened, "closed": sums.closed.total(), **known}


def _of_live(session: Any) -> Counts:
    if not session.is_accepted:
        return {"handshaking": int(state_of(session) == "handshaking")}
    known = dict(zip(COUNTED, session.counts, strict=True))
    return {"open": 1, "opened": 1, "waiting": waiting_of(session), **known}


def _together(routes: Iterable[Counts]) -> Counts:
    counts: Counts = dict.fromkeys(COUNTS, 0)
    for each in routes:
        _add(counts, each)
    return counts


def rss() -> int | None:
    """The memory of the process in bytes, on Linux."""
    try:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None
