"""The figures of this process at one moment, for exporters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from fastws_compat import conf
from fastws_compat.connections import census
from fastws_compat.connections.census import HISTOGRAMS, OTHER, Totals
from fastws_compat.connections.registry import everywhere
from fastws_compat.connections.states import MEMBER

OTHER_ROUTES = "(other)"

# The label of each route, kept so that it never changes.
_labels: dict[str, str] = {}


@dataclass(slots=True)
class Route:
    """The figures of one route."""

    totals: Totals = field(default_factory=Totals)
    open: int = 0
    pending: int = 0

    @property
    def opened(self) -> int:
        return self.totals.opened + self.open


def routes() -> dict[str, Route]:
    """The figures by route: what has ended, and what is open."""
    live, sums = census.snapshot(everywhere)
    found: dict[str, Route] = {}
    for template, totals in sums.items():
        merge(found.setdefault(label_of(template), Route()).totals, totals)
    for session in live:
        add(found.setdefault(label_of(session.template), Route()), session)
    return found


def label_of(template: str) -> str:
    """The route as a label: `(other)` for those beyond `METRICS_ROUTES`."""
    if template not in _labels:
        is_known = len(_labels) < conf.get("METRICS_ROUTES")
        if not is_known:
            return OTHER_ROUTES
        _labels[template] = template
    return _labels[template]


def add(route: Route, session: Any) -> None:
    if session.waited is not None:
        route.totals.handshakes.add(session.waited)
    if session.is_accepted:
        route.open += 1
        count(route.totals, session.counts)
        route.totals.add_sizes(session.sizes)
    elif session.refusal is None:
        route.pending += 1


def count(totals: Totals, counts: Iterable[int | None]) -> None:
    received, sent, bytes_in, bytes_out = (number or 0 for number in counts)
    totals.messages_in += received
    totals.messages_out += sent
    totals.bytes_in += bytes_in
    totals.bytes_out += bytes_out


def merge(into: Totals, totals: Totals) -> None:
    into.opened += totals.opened
    into.away += totals.away
    count(into, (totals.messages_in, totals.messages_out, totals.bytes_in, totals.bytes_out))
    for name in ("closed", "refused", "exceptions"):
        getattr(into, name).update(getattr(totals, name))
    for name in HISTOGRAMS:
        getattr(into, name).merge(getattr(totals, name))


@dataclass(frozen=True, slots=True)
class Queues:
    """The messages that wait for clients that read slowly."""

    sockets: int
    messages: int
    longest: int


def queues() -> Queues:
    members = [session.scope.get(MEMBER) for session in everywhere()]
    lengths = [len(member._queue) for member in members if member is not None and member._queue]
    return Queues(len(lengths), sum(lengths), max(lengths, default=0))


def groups() -> dict[str, tuple[int, int]]:
    """The numbers of groups and of their members in this process, by layer."""
    from fastws_compat.groups.hub import hubs

    found: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for hub in [hub for by_layer in list(hubs.values()) for hub in list(by_layer.values())]:
        found[hub.alias] += len(hub.members)
        sizes[hub.alias] += sum(map(len, list(hub.members.values())))
    return {alias: (number, sizes[alias]) for alias, number in found.items()}


def logins() -> int:
    from fastws_compat.logins.registry import registries

    return sum(len(registry.logins) for registry in registries())


def server() -> str:
    """The server that runs this process: `daphne`, `uvicorn`, or `other`."""
    import sys

    names = ("daphne.server", "uvicorn.server")
    return next((name.partition(".")[0] for name in names if name in sys.modules), OTHER)
