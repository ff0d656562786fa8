"""Spans and metrics of sockets, through the exporters of the SDK that keep them in memory."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Any

import pytest
from django.test import override_settings
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Gauge, Histogram, InMemoryMetricReader, Sum
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import SpanKind, StatusCode

from fastws_compat import FastAPI, HTTPException, WebSocket, WebSocketDisconnect, figures
from fastws_compat.checks.settings import check_setting
from fastws_compat.connections import census, hooks, tally
from fastws_compat.contrib import spans as spans_module
from fastws_compat.contrib.opentelemetry import FastWSInstrumentor, traceparent
from fastws_compat.exceptions import GroupSendError
from fastws_compat.groups import Group
from fastws_compat.layers import client
from fastws_compat.logins.registry import check_times
from fastws_compat.testclient import TestClient
from tests.fake_server import (
    CONNECT,
    DENIAL,
    FakeServer,
    aconverse,
    binary,
    disconnect,
    text,
    websocket_scope,
)

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"
SECRETS = ("qu3ry", "c00kie", "t0ken", "pa7h")


class Spans:
    """The spans that have been exported."""

    def __init__(self, provider: TracerProvider) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = provider
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def all(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.all]

    def one(self, name: str) -> ReadableSpan:
        [found] = [span for span in self.all if span.name == name]
        return found


def instrumented(**kwargs: Any) -> Iterator[None]:
    """Instrument for one test; afterwards everything is as before."""
    before = state()
    FastWSInstrumentor().instrument(**kwargs)
    try:
        yield
    finally:
        FastWSInstrumentor().uninstrument()
    assert state() == before


def state() -> Any:
    lists = (hooks.begun, hooks.answered, hooks.failed, hooks.ended, hooks.refused, hooks.sent)
    wrappers = hooks.sending, hooks.delivering
    observers = census.lag.observers, check_times.observers
    return [list(each) for each in lists], wrappers, observers, census.is_on, tally.is_thorough


@pytest.fixture
def spans() -> Iterator[Spans]:
    found = Spans(TracerProvider())
    for _ in instrumented(tracer_provider=found.provider):
        yield found


def app_with(endpoint: Callable[..., Any], path: str = "/rooms/{room}") -> FastAPI:
    app = FastAPI()
    app.websocket(path)(endpoint)
    return app


async def echo(websocket: WebSocket, room: str) -> None:
    await websocket.accept()
    async for message in websocket.iter_text():
        await websocket.send_text(message)


def scope_of(path: str = "/rooms/pa7h", **headers: str) -> dict[str, Any]:
    return websocket_scope(
        path,
        scheme="wss",
        http_version="1.1",
        client=("203.0.113.9", 50000),
        server=("10.0.0.1", 8001),
        query_string=b"token=qu3ry",
        headers=[
            (b"host", b"chat.example.com:8443"),
            (b"user-agent", b"Firefox"),
            (b"cookie", b"sessionid=c00kie"),
            (b"authorization", b"Bearer t0ken"),
            *((name.encode(), value.encode()) for name, value in headers.items()),
        ],
        extensions=DENIAL,
    )


def run(app: Any, *incoming: Any, scope: dict[str, Any] | None = None) -> FakeServer:
    server = FakeServer(CONNECT, *incoming)

    async def main() -> None:
        server.start(app, scope_of() if scope is None else scope)
        await server.wait_ended()

    asyncio.run(main())
    return server


def test_a_connection_has_a_span_at_each_end(spans: Spans) -> None:
    run(app_with(echo), text("hi"), text("ho"), disconnect(1001), scope=scope_of(traceparent=SAMPLED))
    handshake, close = spans.one("GET /rooms/{room}"), spans.one("close /rooms/{room}")
    assert handshake.kind is SpanKind.SERVER
    assert handshake.parent is not None
    assert (f"{handshake.parent.trace_id:032x}", f"{handshake.parent.span_id:016x}") == (TRACE, SPAN)
    attributes = dict(handshake.attributes or {})
    assert len(attributes.pop("fastws.connection_id")) == 32
    assert attributes == {
        "http.request.method": "GET",
        "http.route": "/rooms/{room}",
        "http.response.status_code": 101,
        "url.scheme": "wss",
        "server.address": "chat.example.com",
        "server.port": 8443,
        "network.protocol.name": "http",
        "network.protocol.version": "1.1",
        "user_agent.original": "Firefox",
        "client.address": "203.0.113.x",
    }
    assert close.kind is SpanKind.INTERNAL
    assert close.parent is None
    assert close.start_time == close.end_time
    assert [link.context for link in close.links] == [handshake.context]
    attributes = dict(close.attributes or {})
    assert 0 <= attributes.pop("fastws.connection.duration") < 60
    assert attributes == {
        "fastws.close.code": 1001,
        "fastws.close.by": "client",
        "fastws.messages.received": 2,
    }
    assert (close.status.status_code, close.events) == (StatusCode.UNSET, ())
    assert len(spans.all) == 2
    assert not any(secret in span.to_json() for span in spans.all for secret in SECRETS)


def test_the_span_of_the_handshake_ends_when_it_is_accepted(spans: Spans) -> None:
    seen: list[Any] = []

    async def endpoint(websocket: WebSocket, room: str) -> None:
        seen.append((trace.get_current_span().get_span_context(), traceparent(), list(spans.names)))
        await websocket.accept()
        with spans.provider.get_tracer("orm").start_as_current_span("SELECT"):
            seen.append(traceparent())
        seen.append((trace.get_current_span().get_span_context().is_valid, traceparent(), list(spans.names)))

    run(app_with(endpoint))
    handshake, select = spans.one("GET /rooms/{room}"), spans.one("SELECT")
    assert handshake.context is not None
    assert select.context is not None
    own = spans_module.written(handshake.context)
    assert seen[0] == (handshake.context, own, [])
    assert seen[1] == spans_module.written(select.context)
    assert seen[2] == (False, own, ["GET /rooms/{room}", "SELECT"])
    assert select.parent is None
    assert select.context.trace_id != handshake.context.trace_id


def test_an_accept_in_a_sub_task_ends_the_span_of_the_handshake(spans: Spans) -> None:
    """It cannot change the endpoint's context, whose later spans keep their parent; the links hold."""

    async def endpoint(websocket: WebSocket, room: str) -> None:
        await asyncio.create_task(websocket.accept())
        assert spans.names == ["GET /rooms/{room}"]
        with spans.provider.get_tracer("orm").start_as_current_span("SELECT"):
            pass

    run(app_with(endpoint))
    handshake, select = spans.one("GET /rooms/{room}"), spans.one("SELECT")
    assert select.parent == handshake.context
    assert [link.context for link in spans.one("close /rooms/{room}").links] == [handshake.context]


def test_a_header_that_names_no_span_begins_a_trace(spans: Spans) -> None:
    run(app_with(echo), disconnect(), scope=scope_of(traceparent="nonsense"))
    assert spans.one("GET /rooms/{room}").parent is None


def test_a_tracestate_cannot_put_control_characters_into_the_log(
    spans: Spans, caplog: pytest.LogCaptureFixture
) -> None:
    parent = f"00-{'c' * 32}-{'d' * 16}-01"
    run(app_with(echo), disconnect(), scope=scope_of(traceparent=parent, tracestate="\x1b[31mforged"))
    assert spans.one("GET /rooms/{room}").parent is not None
    assert caplog.text == ""


def test_traceparent_is_none_outside() -> None:
    assert traceparent() is None


@pytest.mark.parametrize(("host", "expected"), [
    (None, ("10.0.0.1", 8001)),
    ("example.com", ("example.com", 443)),
    ("[::1]:8000", ("::1", 8000)),
    ("[::1]", ("::1", 443)),
    ("example.com:" + "9" * 30, ("example.com:" + "9" * 30, 443)),
])  # fmt: skip
def test_the_server_is_the_one_that_the_client_asked_for(host: str | None, expected: Any) -> None:
    scope = {"scheme": "wss", "server": ("10.0.0.1", 8001)}
    assert spans_module.server_of(scope, "wss", host) == expected


def test_a_server_that_is_not_known_is_left_out(spans: Spans) -> None:
    run(app_with(echo), disconnect(), scope=websocket_scope("/rooms/1"))
    attributes = spans.one("GET /rooms/{room}").attributes or {}
    assert set(attributes) == {
        "fastws.connection_id",
        "http.request.method",
        "http.response.status_code",
        "http.route",
        "network.protocol.name",
        "network.protocol.version",
        "url.scheme",
    }


async def refuse(websocket: WebSocket, room: str) -> None:
    raise HTTPException(401)


async def fail(websocket: WebSocket, room: str) -> None:
    raise ValueError("broken")


async def leave(websocket: WebSocket, room: str) -> None:
    await websocket.receive()
    await websocket.receive()


@pytest.mark.parametrize(("endpoint", "status", "reason", "error"), [
    (refuse, 401, "endpoint", None),
    (fail, 500, "error", "ValueError"),
])  # fmt: skip
def test_a_refusal_has_one_span(spans: Spans, endpoint: Any, status: int, reason: str, error: Any) -> None:
    run(app_with(endpoint))
    [span] = spans.all
    attributes = span.attributes or {}
    assert span.name == "GET /rooms/{room}"
    assert attributes["http.response.status_code"] == status
    assert attributes["fastws.reason"] == reason
    assert attributes.get("error.type") == error
    assert (span.status.status_code is StatusCode.ERROR) == (status == 500)
    assert [event.name for event in span.events] == (["exception"] if error else [])


def test_a_client_that_leaves_its_handshake_has_a_span_without_a_status(spans: Spans) -> None:
    run(app_with(leave), disconnect())
    [span] = spans.all
    assert span.name == "GET /rooms/{room}"
    assert span.status.status_code is StatusCode.UNSET


def test_a_path_without_a_route_is_not_named(spans: Spans) -> None:
    run(app_with(echo), scope=scope_of("/pa7h"))
    [span] = spans.all
    assert span.name == "GET (none)"
    assert (span.attributes or {})["fastws.reason"] == "not_found"
    assert "pa7h" not in span.to_json()


@pytest.mark.parametrize(("scope", "status", "error"), [(None, 503, "503"), (scope_of(), 403, None)])
def test_a_refusal_before_the_connection_begins_has_a_span(
    spans: Spans, scope: Any, status: int, error: str | None
) -> None:
    census.refused(scope, status, "stopping")
    [span] = spans.all
    attributes = span.attributes or {}
    assert span.name == "GET (none)"
    assert (attributes["http.response.status_code"], attributes["fastws.reason"]) == (status, "stopping")
    assert attributes.get("error.type") == error
    assert "fastws.connection_id" not in attributes


async def fail_later(websocket: WebSocket, room: str) -> None:
    await websocket.accept()
    raise LookupError("broken")


def test_an_error_is_an_event_of_the_close(spans: Spans) -> None:
    run(app_with(fail_later))
    close = spans.one("close /rooms/{room}")
    assert close.status.status_code is StatusCode.ERROR
    [event] = close.events
    assert event.name == "exception"
    assert (event.attributes or {})["exception.type"] == "LookupError"
    assert ((close.attributes or {})["fastws.close.code"], spans.names[0]) == (1011, "GET /rooms/{room}")


def test_an_error_that_reaches_a_test_is_an_event_too(spans: Spans) -> None:
    with pytest.raises(LookupError), TestClient(app_with(fail_later)).websocket_connect("/rooms/1"):
        pass
    assert spans.one("close /rooms/{room}").status.status_code is StatusCode.ERROR


def test_a_disconnect_is_no_error(spans: Spans) -> None:
    async def endpoint(websocket: WebSocket, room: str) -> None:
        await websocket.accept()
        await websocket.receive_text()

    with pytest.raises(WebSocketDisconnect), TestClient(app_with(endpoint)).websocket_connect("/rooms/1"):
        pass
    assert spans.one("close /rooms/{room}").status.status_code is StatusCode.UNSET


def test_disconnects_of_a_task_group_are_no_error(spans: Spans) -> None:
    async def endpoint(websocket: WebSocket, room: str) -> None:
        await websocket.accept()
        async with asyncio.TaskGroup() as group:
            group.create_task(websocket.receive_text())

    with pytest.raises(ExceptionGroup), TestClient(app_with(endpoint)).websocket_connect("/rooms/1"):
        pass
    assert spans.one("close /rooms/{room}").status.status_code is StatusCode.UNSET


def test_the_user_is_named_only_if_asked_for(spans: Spans) -> None:
    class User:
        pk = 7

    for wanted in (False, True):
        with override_settings(FASTWS={"TRACE_USER": wanted}):
            run(app_with(echo), disconnect(), scope={**scope_of(), "user": User()})
    users = [(span.attributes or {}).get("user.id") for span in spans.all if span.name.startswith("GET")]
    assert users == [None, "7"]


def test_what_is_not_sampled_has_no_span() -> None:
    found = Spans(TracerProvider())
    for _ in instrumented(tracer_provider=found.provider):
        run(app_with(fail_later), scope=scope_of(traceparent=UNSAMPLED))
        run(app_with(refuse), scope=scope_of(traceparent=UNSAMPLED))
    assert found.all == ()


class Every(Sampler):
    """Takes every second root."""

    def __init__(self) -> None:
        self.asked = 0

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        self.asked += 1
        return SamplingResult(Decision.RECORD_AND_SAMPLE if self.asked % 2 else Decision.DROP)

    def get_description(self) -> str:
        return "Every"


def test_the_close_is_sampled_as_the_handshake() -> None:
    found = Spans(TracerProvider(sampler=ParentBased(Every())))
    for _ in instrumented(tracer_provider=found.provider):
        for _ in range(4):
            run(app_with(echo), disconnect(1001))
    assert found.names == ["GET /rooms/{room}", "close /rooms/{room}"] * 2


def test_without_an_sdk_nothing_is_made() -> None:
    for _ in instrumented(tracer_provider=trace.NoOpTracerProvider()):
        assert run(app_with(echo), text("hi"), disconnect()).texts == ["hi"]


def test_a_span_of_a_middleware_outside_is_used(spans: Spans) -> None:
    app = app_with(echo)

    async def outside(scope: Any, receive: Any, send: Any) -> None:
        with spans.provider.get_tracer("asgi").start_as_current_span("GET /rooms/1", kind=SpanKind.SERVER):
            await app(scope, receive, send)

    run(outside, disconnect())
    assert spans.names == ["close /rooms/{room}", "GET /rooms/{room}"]
    outer = spans.one("GET /rooms/{room}")
    assert (outer.attributes or {})["http.response.status_code"] == 101
    assert [link.context for link in spans.one("close /rooms/{room}").links] == [outer.context]


def test_a_connection_that_is_older_or_outlives_it_is_left_alone() -> None:
    found = Spans(TracerProvider())
    app = app_with(echo)

    async def main() -> None:
        old, new = FakeServer(CONNECT), FakeServer(CONNECT)
        old.start(app, scope_of())
        await old.wait_sent("websocket.accept")
        pending = FakeServer()
        pending.start(app_with(fail_pending), scope_of())
        await asyncio.sleep(0)
        for _ in instrumented(tracer_provider=found.provider):
            new.start(app, scope_of())
            await new.wait_sent("websocket.accept")
            await old.leave()
            pending.put(CONNECT)
            await pending.wait_ended()
        await new.leave()

    asyncio.run(main())
    assert found.names == ["GET /rooms/{room}"]


async def fail_pending(websocket: WebSocket, room: str) -> None:
    await websocket.receive()
    raise ValueError("broken")


def test_it_is_an_entry_point() -> None:
    [found] = [each for each in entry_points(group="opentelemetry_instrumentor") if each.name == "fastws"]
    assert found.load() is FastWSInstrumentor
    assert FastWSInstrumentor().instrumentation_dependencies() == ()


def test_the_last_reader_ends_the_counting() -> None:
    census.start()
    for _ in instrumented(tracer_provider=trace.NoOpTracerProvider()):
        pass
    assert (census.is_on, tally.is_thorough) == (True, True)
    census.stop()
    assert (census.is_on, tally.is_thorough) == (False, False)


@pytest.mark.parametrize(
    ("share", "is_valid"), [(True, True), (0.5, True), (0, True), (1.5, False), (-1, False), ("all", False)]
)
def test_the_share_of_messages_is_checked(share: Any, is_valid: bool) -> None:
    found = check_setting("TRACE_MESSAGES", share)
    assert [each.id for each in found] == ([] if is_valid else ["fastws.E008"])


BLOCKED = """
import sys

OPTIONAL = {"opentelemetry", "prometheus_client", "sentry_sdk", "websockets"}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in OPTIONAL:
            raise AssertionError(f"{name} is imported")

sys.meta_path.insert(0, Blocker())
import django
from django.conf import settings
from django.core.checks import run_checks
settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "fastws_compat", "fastws_compat.operations"],
    FASTWS={"ACCESS_LOG": True, "HEALTH": "/-/"},
)
django.setup()
run_checks()
from fastws_compat import FastAPI, WebSocket
from fastws_compat.exceptions import GroupSendError
from fastws_compat.groups import Group
from tests.fake_server import converse, disconnect, text
app = FastAPI()

@app.websocket("/ws")
async def ws(websocket: WebSocket):
    await websocket.accept()
    await Group("room").asend({"text": await websocket.receive_text()})

converse(app, text("hi"), disconnect())
assert not OPTIONAL & {name.split(".")[0] for name in sys.modules}
"""


def test_nothing_is_imported_unasked() -> None:
    done = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


# The instruments of the specification: unit where it names one, the kind of data, and the attributes.
ROUTE = {"http.route"}
INSTRUMENTS: dict[str, tuple[str | None, type, set[str]]] = {
    "fastws.server.active_connections": ("{connection}", Sum, ROUTE),
    "fastws.server.pending_handshakes": ("{connection}", Sum, ROUTE),
    "fastws.server.connections": (None, Sum, ROUTE),
    "fastws.server.refusals": (None, Sum, {*ROUTE, "http.response.status_code", "fastws.reason"}),
    "fastws.server.closures": (None, Sum, {*ROUTE, "fastws.close.code", "fastws.close.by"}),
    "fastws.server.connection.duration": ("s", Histogram, ROUTE),
    "fastws.server.handshake.duration": ("s", Histogram, ROUTE),
    "fastws.server.messages": (None, Sum, {*ROUTE, "network.io.direction"}),
    "fastws.server.io": ("By", Sum, {*ROUTE, "network.io.direction"}),
    "fastws.server.endpoint.away": ("s", Sum, ROUTE),
    "fastws.server.exceptions": (None, Sum, {*ROUTE, "error.type"}),
    "fastws.groups.sends": (None, Sum, {"fastws.layer", "fastws.outcome"}),
    "fastws.groups.lost": (None, Sum, {"fastws.layer"}),
    "fastws.groups.deliveries": (None, Sum, {"fastws.layer"}),
    "fastws.groups.active": (None, Sum, {"fastws.layer"}),
    "fastws.groups.members": (None, Sum, {"fastws.layer"}),
    "fastws.server.send_queue.sockets": (None, Sum, set()),
    "fastws.server.send_queue.messages": (None, Sum, set()),
    "fastws.server.send_queue.max": (None, Gauge, set()),
    "fastws.server.send_queue.overflows": (None, Sum, {"fastws.action"}),
    "messaging.client.operation.duration": (
        "s",
        Histogram,
        {"messaging.system", "messaging.operation.name", "fastws.layer"},
    ),
    "fastws.layer.up": (None, Gauge, {"fastws.layer"}),
    "fastws.layer.outages": (None, Sum, {"fastws.layer"}),
    "fastws.event_loop.lag": ("s", Histogram, set()),
    "fastws.logins.active": (None, Sum, set()),
    "fastws.logins.checks": (None, Sum, {"fastws.outcome"}),
    "fastws.logins.check.duration": ("s", Histogram, set()),
    "fastws.logins.queries": (None, Sum, set()),
    "fastws.server.limit": (None, Gauge, set()),
    "fastws.server.draining": (None, Gauge, set()),
}


class Metrics:
    """What a reader collects."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self.provider = MeterProvider([self._reader])

    def collect(self) -> dict[str, Any]:
        data: Any = self._reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


def value(found: dict[str, Any], name: str, /, **wanted: Any) -> Any:
    """The value of the one point whose attributes, by the last part of their names, are these."""
    [point] = [
        point
        for point in found[name].data.data_points
        if {key.rpartition(".")[2]: each for key, each in point.attributes.items()} == wanted
    ]
    return point.count if isinstance(found[name].data, Histogram) else point.value


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> Iterator[Metrics]:
    for name in ("_totals", "_exceptions", "_sent_codes"):
        monkeypatch.setattr(census, name, type(getattr(census, name))())
    monkeypatch.setattr(figures, "_labels", {})
    forget_layers()
    found = Metrics()
    for _ in instrumented(tracer_provider=trace.NoOpTracerProvider(), meter_provider=found.provider):
        yield found
    assert found.collect() == {} or all(
        isinstance(metric.data, Histogram) for metric in found.collect().values()
    )
    forget_layers()


def forget_layers() -> None:
    client.healths.clear()
    client.health.cache_clear()


async def work(metrics: Metrics) -> dict[str, Any]:
    """The metrics while one socket is open, one handshake waits, and some connections have ended."""

    async def endpoint(websocket: WebSocket, room: str) -> None:
        await websocket.accept()
        await websocket.join("room")
        await Group("room").asend("to all")
        await websocket.receive_text()
        await websocket.receive_text()

    app = app_with(endpoint)
    server, waiting = FakeServer(CONNECT), FakeServer(CONNECT)
    server.start(app, scope_of())
    waiting.start(app_with(leave), scope_of("/rooms/2"))
    await server.wait_sent("websocket.send")
    server.say("hi")
    for failing in (fail, fail_later, refuse):
        await aconverse(app_with(failing), **scope_of())
    census.lag.add(0.1)
    check_times.add(0.2)
    with override_settings(FASTWS={"MAX_CONNECTIONS": 50}):
        found = metrics.collect()
    await server.leave()
    await waiting.leave()
    return found


def test_every_instrument_of_the_specification_and_no_other(metrics: Metrics) -> None:
    found = asyncio.run(work(metrics))
    assert set(found) == set(INSTRUMENTS)
    for name, (unit, kind, attributes) in INSTRUMENTS.items():
        metric = found[name]
        assert unit in (None, metric.unit), name
        assert type(metric.data) is kind, name
        assert {key for point in metric.data.data_points for key in point.attributes} == attributes, name


def test_the_values_are_those_of_the_process(metrics: Metrics) -> None:
    found, route = asyncio.run(work(metrics)), "/rooms/{room}"
    assert value(found, "fastws.server.active_connections", route=route) == 1
    assert value(found, "fastws.server.pending_handshakes", route=route) == 1
    assert value(found, "fastws.server.connections", route=route) == 2
    assert value(found, "fastws.server.closures", route=route, code=1011, by="server") == 1
    assert value(found, "fastws.server.refusals", route=route, status_code=401, reason="endpoint") == 1
    assert value(found, "fastws.server.exceptions", route=route, type="LookupError") == 1
    assert value(found, "fastws.server.messages", route=route, direction="receive") == 1
    assert value(found, "fastws.server.handshake.duration", route=route) == 4
    assert value(found, "fastws.server.connection.duration", route=route) == 1
    assert value(found, "fastws.groups.sends", layer="default", outcome="sent") == 1
    assert value(found, "fastws.groups.deliveries", layer="default") == 1
    assert value(found, "fastws.groups.members", layer="default") == 1
    assert (
        value(found, "messaging.client.operation.duration", layer="default", system="channels", name="send")
        == 1
    )
    assert value(found, "fastws.layer.up", layer="default") == 1
    assert value(found, "fastws.event_loop.lag") >= 1  # one for each second
    assert value(found, "fastws.logins.check.duration") == 1
    assert value(found, "fastws.server.limit") == 50
    assert value(found, "fastws.server.draining") == 0


def test_the_buckets_are_those_of_the_other_metrics(metrics: Metrics) -> None:
    found = asyncio.run(work(metrics))
    [point] = found["messaging.client.operation.duration"].data.data_points
    assert point.explicit_bounds == client.SEND_TIMES


def test_a_limit_that_is_not_set_has_no_value(metrics: Metrics) -> None:
    assert "fastws.server.limit" not in metrics.collect()


@pytest.mark.parametrize("share", [True, 0.999_999_999])
def test_a_message_has_a_span_until_the_next_receive(spans: Spans, share: Any) -> None:
    async def endpoint(websocket: WebSocket, room: str) -> None:
        await websocket.accept()
        assert await websocket.receive_text() == "hi"
        with spans.provider.get_tracer("orm").start_as_current_span("SELECT"):
            pass
        assert "process /rooms/{room}" not in spans.names
        assert await websocket.receive_bytes() == b"12345"
        assert spans.names.count("process /rooms/{room}") == 1

    with override_settings(FASTWS={"TRACE_MESSAGES": share}):
        run(app_with(endpoint), text("hi"), binary(b"12345"))
    handshake = spans.one("GET /rooms/{room}")
    first, second = (span for span in spans.all if span.name == "process /rooms/{room}")
    assert spans.names[-1] == "close /rooms/{room}"  # the last message has ended before
    for span, size in ((first, 2), (second, 5)):
        assert span.kind is SpanKind.CONSUMER
        assert span.parent is None
        assert [link.context for link in span.links] == [handshake.context]
        assert dict(span.attributes or {}) == {
            "messaging.system": "websocket",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.template": "/rooms/{room}",
            "messaging.message.body.size": size,
            "fastws.connection_id": (handshake.attributes or {})["fastws.connection_id"],
        }
    select = spans.one("SELECT")
    assert select.parent == first.context


@pytest.mark.parametrize(
    ("share", "parent"), [(False, SAMPLED), (0, SAMPLED), (0.000_000_001, SAMPLED), (True, UNSAMPLED)]
)
def test_other_messages_have_no_span(spans: Spans, share: Any, parent: str) -> None:
    with override_settings(FASTWS={"TRACE_MESSAGES": share}):
        server = run(app_with(echo), text("hi"), disconnect(), scope=scope_of(traceparent=parent))
    assert server.texts == ["hi"]
    assert set(spans.names) <= {"GET /rooms/{room}", "close /rooms/{room}"}


def test_the_span_of_a_message_ends_with_the_instrumentation() -> None:
    found = Spans(TracerProvider())

    async def endpoint(websocket: WebSocket, room: str) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())
        await websocket.receive()  # the rest of the connection makes no span

    async def main() -> None:
        server = FakeServer(CONNECT, text("hi"))
        for _ in instrumented(tracer_provider=found.provider):
            server.start(app_with(endpoint), scope_of())
            await server.wait_sent("websocket.send")
        await server.leave()

    with override_settings(FASTWS={"TRACE_MESSAGES": True}):
        asyncio.run(main())
    assert found.names == ["GET /rooms/{room}", "process /rooms/{room}"]


async def exchange(*messages: Any) -> list[Any]:
    """What two members get of messages to their group, and the envelopes on the layer."""
    app = FastAPI()

    @app.websocket("/ws")
    async def member(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.join("room")
        await websocket.send_text("joined")
        async for _ in websocket.iter_text():
            pass

    envelopes: list[Any] = []
    layer = client.layer_of("default")
    watcher = await layer.new_channel()
    await layer.group_add("room", watcher)
    members = [FakeServer(CONNECT), FakeServer(CONNECT)]
    for server in members:
        server.start(app)
        await server.wait_sent("websocket.send")
    for message in messages:
        await Group("room").asend(message)
        envelopes.append((await layer.receive(watcher))["fastws"])
    await Group("room").adisconnect(4000)
    envelopes.append((await layer.receive(watcher))["fastws"])
    for server in members:
        await server.wait_sent("websocket.close")
        await server.leave()
    await layer.group_discard("room", watcher)
    assert [server.types.count("websocket.send") for server in members] == [1 + len(messages)] * 2
    return envelopes


@pytest.mark.parametrize("named", [False, True])
def test_a_group_message_has_a_span_where_it_is_sent_and_where_it_is_delivered(
    spans: Spans, named: bool
) -> None:
    async def main() -> list[Any]:
        with spans.provider.get_tracer("view").start_as_current_span("view"):
            return await exchange("h\u00e9", b"12345")

    with override_settings(FASTWS={"TRACE_GROUP_NAMES": named}):
        envelopes = asyncio.run(main())
    sent = [span for span in spans.all if span.name == "send group"]
    delivered = [span for span in spans.all if span.name == "deliver group"]
    assert [envelope["trace"] for envelope in envelopes] == [
        spans_module.written(span.context) for span in sent
    ]
    assert all(len(envelope["trace"]) == 55 for envelope in envelopes)
    for send, deliver, size in zip(sent, delivered, (3, 5, 0), strict=True):
        attributes = {
            "messaging.system": "channels",
            "messaging.operation.name": "send",
            "messaging.message.body.size": size,
            "fastws.layer": "default",
            **({"messaging.destination.name": "room"} if named else {}),
        }
        assert (send.kind, deliver.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
        assert send.parent == spans.one("view").context
        assert deliver.parent is None
        [link] = deliver.links
        assert spans_module.written(link.context) == spans_module.written(send.context)
        assert dict(send.attributes or {}) == attributes
        assert dict(deliver.attributes or {}) == {**attributes, "fastws.members": 2}


def test_a_send_that_is_not_sampled_leaves_no_mark() -> None:
    found = Spans(TracerProvider(sampler=ALWAYS_OFF))
    for _ in instrumented(tracer_provider=found.provider):
        envelopes = asyncio.run(exchange("hi"))
    assert found.all == ()
    assert not any("trace" in envelope for envelope in envelopes)


def test_a_send_that_is_only_recorded_leaves_no_mark() -> None:
    class Recorded(Sampler):
        def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
            return SamplingResult(Decision.RECORD_ONLY)

        def get_description(self) -> str:
            return "Recorded"

    for _ in instrumented(tracer_provider=TracerProvider(sampler=Recorded())):
        envelopes = asyncio.run(exchange("hi"))
    assert not any("trace" in envelope for envelope in envelopes)


def test_a_send_that_fails_is_an_error_of_its_span(spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*args: Any) -> None:
        raise OSError("away")

    async def main() -> None:
        monkeypatch.setattr(client.layer_of("default"), "group_send", fails)
        with pytest.raises(GroupSendError):
            await Group("room").asend("hi")

    asyncio.run(main())
    [send] = spans.all
    assert send.status.status_code is StatusCode.ERROR
    assert [event.name for event in send.events] == ["exception"]


def test_a_tracer_that_fails_harms_no_message(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Sampler):
        def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
            raise RuntimeError("broken sampler")

        def get_description(self) -> str:
            return "Broken"

    hooks._broken.clear()
    with override_settings(FASTWS={"TRACE_MESSAGES": True}):
        for _ in instrumented(tracer_provider=TracerProvider(sampler=Broken())):
            asyncio.run(exchange("hi"))
    messages = [record.getMessage() for record in caplog.records]
    assert [each for each in messages if "_sending failed" in each]
    assert len(messages) == len(set(messages))


@pytest.mark.parametrize("where", ["on_start", "on_end"])
def test_a_span_processor_that_fails_harms_no_message(caplog: pytest.LogCaptureFixture, where: str) -> None:
    def fail(*args: Any, **values: Any) -> None:
        raise RuntimeError(where)

    broken = SpanProcessor()
    setattr(broken, where, fail)
    provider = TracerProvider()
    provider.add_span_processor(broken)

    async def endpoint(websocket: WebSocket, room: str) -> None:
        await websocket.accept()
        await websocket.join(room)
        async for text in websocket.iter_text():
            await Group(room).asend(text)

    hooks._broken.clear()
    with override_settings(FASTWS={"TRACE_MESSAGES": True}):
        for _ in instrumented(tracer_provider=provider):
            with TestClient(app_with(endpoint)).websocket_connect("/rooms/1") as websocket:
                for text in ("a", "b", "c"):
                    websocket.send_text(text)
                    assert websocket.receive_text() == text
    messages = [record.getMessage() for record in caplog.records]
    assert messages
    assert all(
        each.endswith(f"its further failures are not logged: RuntimeError('{where}')") for each in messages
    )
    assert len(messages) == len(set(messages))
