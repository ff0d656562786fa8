"""Metrics for Prometheus: a view, and a collector for the registry of `prometheus_client`.

urlpatterns += [path("metrics/sockets", fastws_compat.contrib.prometheus.metrics)]
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from fastws_compat import __version__, conf, daphne, figures, health
from fastws_compat.connections import census
from fastws_compat.connections.census import Histogram
from fastws_compat.contrib import gathering
from fastws_compat.layers.client import counters, healths
from fastws_compat.logger import logger

LOOPBACK = ("127.0.0.1", "::1")
# Headers that proxies add.
FORWARDED = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP")

census.start()


def enter(registry: CollectorRegistry) -> None:
    """Register the collector in a registry, once."""
    if collector not in registry._collector_to_names:
        registry.register(collector)


class SocketCollector(Collector):
    """Reads the figures of this process when they are collected."""

    def collect(self) -> Iterator[Metric]:
        for source in SOURCES:
            try:
                yield from list(source())
            except Exception as exc:
                _report(source, exc)

    def describe(self) -> Iterable[Metric]:
        """Nothing: the families are known when they are collected."""
        return ()


_reported: set[Any] = set()


def _report(source: Any, exc: Exception) -> None:
    if source not in _reported:
        _reported.add(source)
        logger.error("The metrics of %s cannot be collected: %r", source.__name__.strip("_"), exc)


def _gauge(name: str, text: str, value: float | None = None, labels: Iterable[str] = ()) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"fastws_{name}", text, value=value, labels=list(labels) or None)


def _counter(name: str, text: str, *labels: str, value: float | None = None) -> CounterMetricFamily:
    return CounterMetricFamily(f"fastws_{name}", text, value=value, labels=list(labels) or None)


def _histogram(name: str, text: str, *labels: str) -> HistogramMetricFamily:
    return HistogramMetricFamily(f"fastws_{name}", text, labels=list(labels) or None)


def _add(family: HistogramMetricFamily, labels: list[str], histogram: Histogram) -> None:
    counts, total = list(histogram.counts), 0
    buckets = []
    for bound, count in zip([*map(float, histogram.bounds), float("inf")], counts, strict=True):
        total += count
        buckets.append(("+Inf" if bound == float("inf") else str(bound), total))
    family.add_metric(labels, buckets, histogram.sum)


def _connections() -> Iterator[Metric]:
    found = figures.routes()
    opened = _counter("connections_opened", "Connections that were accepted.", "route")
    live = _gauge("connections", "Open connections.", labels=["route"])
    pending = _gauge("handshakes", "Handshakes that have not been answered.", labels=["route"])
    for label, route in found.items():
        live.add_metric([label], route.open)
        pending.add_metric([label], route.pending)
        opened.add_metric([label], route.opened)
    yield from (live, pending, opened)
    yield from _ends(found)
    yield from _messages(found)


def _ends(found: dict[str, figures.Route]) -> Iterator[Metric]:
    refused = _counter("connections_refused", "Handshakes that were refused.", "route", "status", "reason")
    closed = _counter("connections_closed", "Connections that were closed.", "route", "code", "by")
    raised = _counter("exceptions", "Exceptions of applications.", "route", "exception")
    ages = _histogram("connection_duration_seconds", "Age of connections at their end.", "route")
    waits = _histogram("handshake_duration_seconds", "Time to the answer of a handshake.", "route")
    for label, route in found.items():
        totals = route.totals
        for (status, reason), number in totals.refused.items():
            refused.add_metric([label, str(status), reason], number)
        for (code, by), number in totals.closed.items():
            closed.add_metric([label, str(code), by], number)
        for name, number in totals.exceptions.items():
            raised.add_metric([label, name], number)
        _add(ages, [label], totals.durations)
        _add(waits, [label], totals.handshakes)
    yield from (refused, closed, raised, ages, waits)


def _messages(found: dict[str, figures.Route]) -> Iterator[Metric]:
    messages = _counter("messages", "Messages of accepted connections.", "route", "direction")
    sizes = _counter("message_bytes", "Bytes of the payloads of messages.", "route", "direction")
    away = _counter("endpoint_away_seconds", "Time for which endpoints were not receiving.", "route")
    for label, route in found.items():
        totals = route.totals
        messages.add_metric([label, "in"], totals.messages_in)
        messages.add_metric([label, "out"], totals.messages_out)
        sizes.add_metric([label, "in"], totals.bytes_in)
        sizes.add_metric([label, "out"], totals.bytes_out)
        away.add_metric([label], totals.away)
    yield from (messages, sizes, away)
    if conf.get("METRICS_SIZES"):
        yield _sizes(found)


def _sizes(found: dict[str, figures.Route]) -> Metric:
    family = _histogram("message_size_bytes", "Size of the payloads of messages.", "route", "direction")
    for label, route in found.items():
        _add(family, [label, "in"], route.totals.sizes_in)
        _add(family, [label, "out"], route.totals.sizes_out)
    return family


def _layers() -> Iterator[Metric]:
    sends = _counter("group_sends", "Messages sent to groups.", "layer", "outcome")
    lost = _counter("group_lost", "Group messages that did not reach this process.", "layer")
    deliveries = _counter("group_deliveries", "Group messages passed to members.", "layer")
    times = _histogram("layer_send_seconds", "Time of sends to a channel layer.", "layer")
    up = _gauge("layer_up", "Whether a channel layer works.", labels=["layer"])
    outages = _counter("layer_outages", "Outages of a channel layer.", "layer")
    for alias, found in list(healths.items()):
        for outcome in ("sent", "failed"):
            sends.add_metric([alias, outcome], found.counts[outcome])
        lost.add_metric([alias], found.counts["lost"])
        deliveries.add_metric([alias], found.counts["deliveries"])
        _add(times, [alias], found.send_times)
        up.add_metric([alias], float(found.failing_since is None))
        outages.add_metric([alias], found.counts["outages"])
    yield from (sends, lost, deliveries, times, up, outages)


def _groups() -> Iterator[Metric]:
    groups = _gauge("groups", "Groups with members in this process.", labels=["layer"])
    members = _gauge("group_members", "Memberships of groups in this process.", labels=["layer"])
    for alias, (number, size) in figures.groups().items():
        groups.add_metric([alias], number)
        members.add_metric([alias], size)
    yield from (groups, members)


def _queues() -> Iterator[Metric]:
    found = figures.queues()
    yield _gauge("slow_sockets", "Sockets for which messages wait.", found.sockets)
    yield _gauge("send_queue_messages", "Messages that wait for slow clients.", found.messages)
    yield _gauge("send_queue_max", "Messages that wait for the slowest client.", found.longest)
    slow = _counter("slow_consumers", "Sockets closed, and messages dropped, for slow clients.", "action")
    for action in ("closed", "dropped"):
        slow.add_metric([action], counters[action])
    yield slow


def _lag() -> Iterator[Metric]:
    lag = _histogram("event_loop_lag_seconds", "How late timers of the event loop are.")
    _add(lag, [], census.lag)
    yield lag


def _logins() -> Iterator[Metric]:
    from fastws_compat.logins.registry import check_times, checks

    yield _gauge("logins", "Logins of open sockets.", figures.logins())
    outcomes = _counter("login_checks", "Logins that were checked.", "outcome")
    for outcome in ("kept", "ended", "failed"):
        outcomes.add_metric([outcome], checks[outcome])
    times = _histogram("login_check_duration_seconds", "Time of the checks of logins.")
    _add(times, [], check_times)
    queries = _counter("login_queries", "Database queries of the checks of logins.", value=checks["queries"])
    yield from (outcomes, times, queries)


def _process() -> Iterator[Metric]:
    if (limit := conf.get("MAX_CONNECTIONS")) is not None:
        yield _gauge("connections_limit", "The setting MAX_CONNECTIONS.", limit)
    yield _gauge("draining", "Whether the process is draining.", float(health.is_draining()))
    info = _gauge("info", "The version of fastws_compat.", labels=["version", "server", "mode"])
    info.add_metric([__version__, figures.server(), daphne.mode()], 1)
    yield info


SOURCES: tuple[Callable[[], Iterator[Metric]], ...] = (
    _connections,
    _layers,
    _groups,
    _queues,
    _lag,
    _logins,
    _process,
)

collector = SocketCollector()
gathering.answer_with(collector.collect)


def metrics(request: HttpRequest) -> HttpResponse:
    """The metrics of this process; with `?all=1` those of all processes, each with the label `process`."""
    if not request.GET.get("all"):
        registry = CollectorRegistry()
        enter(registry)
        return _response(request, registry)
    if not may_gather(request):
        return HttpResponse("Forbidden", status=403, content_type="text/plain")
    registry = CollectorRegistry()
    registry.register(Gathered())
    return _response(request, registry)


def _response(request: HttpRequest, registry: CollectorRegistry) -> HttpResponse:
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(registry), headers={"Content-Type": content_type})


def may_gather(request: HttpRequest) -> bool:
    """Whether the client has sent the token, or is on this machine."""
    token = conf.get("METRICS_TOKEN")
    # Django decodes headers as Latin-1, whatever their bytes mean to the client.
    given = request.headers.get("Authorization", "").encode("latin-1", "replace")
    if token and hmac.compare_digest(given, f"Bearer {token}".encode()):
        return True
    return request.META.get("REMOTE_ADDR") in LOOPBACK and not is_forwarded(request)


def is_forwarded(request: HttpRequest) -> bool:
    """Whether a proxy may have sent the request: then the peer's address says nothing about the client."""
    behind_proxy = settings.USE_X_FORWARDED_HOST or settings.SECURE_PROXY_SSL_HEADER is not None
    return behind_proxy or any(name in request.headers for name in FORWARDED)


class Gathered(Collector):
    """The metrics of all processes that reply; a process that does not leaves a gap."""

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for process, own in gathering.gather(collector.collect):
            for metric in own:
                family = families.setdefault(
                    metric.name, Metric(metric.name, metric.documentation, metric.type)
                )
                for sample in metric.samples:
                    labels = {**sample.labels, "process": process}
                    family.samples.append(sample._replace(labels=labels))
        yield from families.values()

    def describe(self) -> Iterable[Metric]:
        """Nothing: the families are known when they are collected."""
        return ()
