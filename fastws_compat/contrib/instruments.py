"""The metrics of this process as instruments of OpenTelemetry, which the exporter's thread reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from opentelemetry.metrics import CallbackOptions, Histogram, Meter, MeterProvider, Observation, get_meter

from fastws_compat import __version__, conf, figures, health
from fastws_compat.connections import census, hooks
from fastws_compat.connections.census import DURATIONS, HANDSHAKES, LAGS, Totals
from fastws_compat.figures import Queues, Route
from fastws_compat.layers.client import SEND_TIMES, Health, counters, healths
from fastws_compat.logins.registry import check_times, checks

NAME = "fastws_compat"

# A value with its attributes.
Sample = tuple[float, dict[str, Any]]
Source = Callable[[], Iterable[Sample]]
Observers = tuple[Callable[[float], None], ...]
# The attributes of a send to a channel layer, as the messaging conventions name them.
SENDING = {"messaging.system": "channels", "messaging.operation.name": "send"}


class Figure(NamedTuple):
    """An instrument whose values are read when they are exported."""

    name: str
    unit: str
    source: Source
    # The method of the meter that creates it.
    create: str = "create_observable_counter"


def _by_route(read: Callable[[Route], Iterable[Sample]]) -> Source:
    def source() -> Iterator[Sample]:
        for label, route in figures.routes().items():
            for value, attributes in read(route):
                yield value, {"http.route": label, **attributes}

    return source


def _by_layer(read: Callable[[Health], Iterable[Sample]]) -> Source:
    def source() -> Iterator[Sample]:
        for alias, found in list(healths.items()):
            for value, attributes in read(found):
                yield value, {"fastws.layer": alias, **attributes}

    return source


def _in_groups(place: int) -> Source:
    return lambda: ((sizes[place], {"fastws.layer": alias}) for alias, sizes in figures.groups().items())


def _in_queues(read: Callable[[Queues], int]) -> Source:
    return lambda: [(read(figures.queues()), {})]


def _refusals(route: Route) -> Iterator[Sample]:
    for (status, reason), number in route.totals.refused.items():
        yield number, {"http.response.status_code": status, "fastws.reason": reason}


def _closures(route: Route) -> Iterator[Sample]:
    for (code, by), number in route.totals.closed.items():
        yield number, {"fastws.close.code": code, "fastws.close.by": by}


def _exceptions(route: Route) -> Iterator[Sample]:
    for name, number in route.totals.exceptions.items():
        yield number, {"error.type": name}


def _both_ways(read: Callable[[Totals], tuple[int, int]]) -> Source:
    def directions(route: Route) -> Iterator[Sample]:
        for direction, number in zip(("receive", "transmit"), read(route.totals), strict=True):
            yield number, {"network.io.direction": direction}

    return _by_route(directions)


def _sends(found: Health) -> Iterator[Sample]:
    for outcome in ("sent", "failed"):
        yield found.counts[outcome], {"fastws.outcome": outcome}


def _overflows() -> Iterator[Sample]:
    for action in ("closed", "dropped"):
        yield counters[action], {"fastws.action": action}


def _checks() -> Iterator[Sample]:
    for outcome in ("kept", "ended", "failed"):
        yield checks[outcome], {"fastws.outcome": outcome}


def _queries() -> Iterator[Sample]:
    yield checks["queries"], {}


def _limit() -> Iterator[Sample]:
    if (limit := conf.get("MAX_CONNECTIONS")) is not None:
        yield limit, {}


LEVEL, GAUGE = "create_observable_up_down_counter", "create_observable_gauge"
CONNECTIONS = "{connection}"
FIGURES = (
    Figure("server.active_connections", CONNECTIONS, _by_route(lambda route: [(route.open, {})]), LEVEL),
    Figure("server.pending_handshakes", CONNECTIONS, _by_route(lambda route: [(route.pending, {})]), LEVEL),
    Figure("server.connections", CONNECTIONS, _by_route(lambda route: [(route.opened, {})])),
    Figure("server.refusals", CONNECTIONS, _by_route(_refusals)),
    Figure("server.closures", CONNECTIONS, _by_route(_closures)),
    Figure("server.messages", "{message}", _both_ways(lambda sums: (sums.messages_in, sums.messages_out))),
    Figure("server.io", "By", _both_ways(lambda sums: (sums.bytes_in, sums.bytes_out))),
    Figure("server.endpoint.away", "s", _by_route(lambda route: [(route.totals.away, {})])),
    Figure("server.exceptions", "{exception}", _by_route(_exceptions)),
    Figure("groups.sends", "{message}", _by_layer(_sends)),
    Figure("groups.lost", "{message}", _by_layer(lambda found: [(found.counts["lost"], {})])),
    Figure("groups.deliveries", "{message}", _by_layer(lambda found: [(found.counts["deliveries"], {})])),
    Figure("groups.active", "{group}", _in_groups(0), LEVEL),
    Figure("groups.members", "{member}", _in_groups(1), LEVEL),
    Figure("server.send_queue.sockets", CONNECTIONS, _in_queues(lambda found: found.sockets), LEVEL),
    Figure("server.send_queue.messages", "{message}", _in_queues(lambda found: found.messages), LEVEL),
    Figure("server.send_queue.max", "{message}", _in_queues(lambda found: found.longest), GAUGE),
    Figure("server.send_queue.overflows", "{message}", _overflows),
    Figure("layer.up", "1", _by_layer(lambda found: [(int(found.failing_since is None), {})]), GAUGE),
    Figure("layer.outages", "{outage}", _by_layer(lambda found: [(found.counts["outages"], {})])),
    Figure("logins.active", "{login}", lambda: [(figures.logins(), {})], LEVEL),
    Figure("logins.checks", "{login}", _checks),
    Figure("logins.queries", "{query}", _queries),
    Figure("server.limit", CONNECTIONS, _limit, GAUGE),
    Figure("server.draining", "1", lambda: [(int(health.is_draining()), {})], GAUGE),
)


class Instruments:
    """Reports the figures of this process while it is on; a meter cannot remove an instrument."""

    def __init__(self, provider: MeterProvider | None) -> None:
        self._is_on = False
        meter = get_meter(NAME, __version__, provider)
        for figure in FIGURES:
            create = getattr(meter, figure.create)
            create(f"fastws.{figure.name}", [self._reader(figure.source)], figure.unit)
        self._ages = _histogram(meter, "fastws.server.connection.duration", DURATIONS)
        self._waits = _histogram(meter, "fastws.server.handshake.duration", HANDSHAKES)
        self._sends = _histogram(meter, "messaging.client.operation.duration", SEND_TIMES)
        self._lags = _histogram(meter, "fastws.event_loop.lag", LAGS)
        self._checks = _histogram(meter, "fastws.logins.check.duration", HANDSHAKES)

    def begin(self) -> None:
        self._is_on = True
        hooks.answered.append(self._answered)
        hooks.ended.append(self._ended)
        hooks.sent.append(self._sent)
        census.lag.observers += (self._lags.record,)
        check_times.observers += (self._checks.record,)

    def stop(self) -> None:
        self._is_on = False
        hooks.answered.remove(self._answered)
        hooks.ended.remove(self._ended)
        hooks.sent.remove(self._sent)
        census.lag.observers = _without(census.lag.observers, self._lags.record)
        check_times.observers = _without(check_times.observers, self._checks.record)

    def _reader(self, source: Source) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def read(options: CallbackOptions) -> list[Observation]:
            return [Observation(*sample) for sample in source()] if self._is_on else []

        return read

    def _answered(self, session: Any) -> None:
        self._waits.record(session.age, _route_of(session))

    def _ended(self, session: Any) -> None:
        if session.is_accepted:
            self._ages.record(session.age, _route_of(session))

    def _sent(self, alias: str, seconds: float) -> None:
        self._sends.record(seconds, {**SENDING, "fastws.layer": alias})


def _histogram(meter: Meter, name: str, bounds: tuple[float, ...]) -> Histogram:
    return meter.create_histogram(name, "s", explicit_bucket_boundaries_advisory=bounds)


def _route_of(session: Any) -> dict[str, str]:
    return {"http.route": figures.label_of(session.template)}


def _without(observers: Observers, observer: Callable[[float], None]) -> Observers:
    return tuple(each for each in observers if each != observer)
