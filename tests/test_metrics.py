"""The metrics for Prometheus: every family and label of the table, and nothing else."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import RequestFactory, override_settings
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from fastws_compat import FastAPI, WebSocket, figures, health
from fastws_compat.connections import census, tally
from fastws_compat.connections.registry import everywhere
from fastws_compat.contrib import prometheus
from fastws_compat.groups import Group
from tests.fake_server import CONNECT, DENIAL, FakeServer, disconnect, text, websocket_scope

DOCS = Path(__file__).resolve().parents[1] / "docs"

# The families of the specification: name, type, and the labels besides those of buckets.
FAMILIES = {
    "fastws_connections": ("gauge", {"route"}),
    "fastws_handshakes": ("gauge", {"route"}),
    "fastws_connections_opened": ("counter", {"route"}),
    "fastws_connections_refused": ("counter", {"route", "status", "reason"}),
    "fastws_connections_closed": ("counter", {"route", "code", "by"}),
    "fastws_connection_duration_seconds": ("histogram", {"route"}),
    "fastws_handshake_duration_seconds": ("histogram", {"route"}),
    "fastws_messages": ("counter", {"route", "direction"}),
    "fastws_message_bytes": ("counter", {"route", "direction"}),
    "fastws_message_size_bytes": ("histogram", {"route", "direction"}),
    "fastws_endpoint_away_seconds": ("counter", {"route"}),
    "fastws_exceptions": ("counter", {"route", "exception"}),
    "fastws_group_sends": ("counter", {"layer", "outcome"}),
    "fastws_group_lost": ("counter", {"layer"}),
    "fastws_group_deliveries": ("counter", {"layer"}),
    "fastws_groups": ("gauge", {"layer"}),
    "fastws_group_members": ("gauge", {"layer"}),
    "fastws_slow_sockets": ("gauge", set()),
    "fastws_send_queue_messages": ("gauge", set()),
    "fastws_send_queue_max": ("gauge", set()),
    "fastws_slow_consumers": ("counter", {"action"}),
    "fastws_layer_send_seconds": ("histogram", {"layer"}),
    "fastws_layer_up": ("gauge", {"layer"}),
    "fastws_layer_outages": ("counter", {"layer"}),
    "fastws_event_loop_lag_seconds": ("histogram", set()),
    "fastws_logins": ("gauge", set()),
    "fastws_login_checks": ("counter", {"outcome"}),
    "fastws_login_check_duration_seconds": ("histogram", set()),
    "fastws_login_queries": ("counter", set()),
    "fastws_connections_limit": ("gauge", set()),
    "fastws_draining": ("gauge", set()),
    "fastws_info": ("gauge", {"version", "server", "mode"}),
}
BUCKETS = {
    "fastws_connection_duration_seconds": "1 10 60 300 1800 3600 14400 86400",
    "fastws_handshake_duration_seconds": ".005 .01 .025 .05 .1 .25 .5 1 2.5 4",
    "fastws_layer_send_seconds": ".001 .0025 .005 .01 .025 .05 .1 .5 1 5",
    "fastws_event_loop_lag_seconds": ".001 .005 .01 .025 .05 .1 .25 .5 1 5",
    "fastws_message_size_bytes": "64 256 1024 4096 16384 65536 262144 1048576",
}


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    census.start()  # as the import of `fastws_compat.contrib.prometheus` does
    monkeypatch.setattr(census, "_totals", {})
    monkeypatch.setattr(census, "_sent_codes", set())
    monkeypatch.setattr(census, "_exceptions", set())
    monkeypatch.setattr(figures, "_labels", {})


def scrape(parser: Any = parse, **headers: str) -> dict[str, Any]:
    response = prometheus.metrics(RequestFactory().get("/metrics/sockets", headers=headers))
    assert response.status_code == 200
    return {family.name: family for family in parser(response.content.decode())}


def value(families: dict[str, Any], name: str, **labels: str) -> float | None:
    for family in families.values():
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return float(sample.value)
    return None


def app_with_routes() -> FastAPI:
    app = FastAPI()

    @app.websocket("/rooms/{room}")
    async def echo(websocket: WebSocket, room: str) -> None:
        await websocket.accept()
        async for each in websocket.iter_text():
            await websocket.send_text(each)

    @app.websocket("/raises")
    async def raises(websocket: WebSocket) -> None:
        raise KeyError("secret")

    return app


def run(app: Any, path: str, *messages: Any, **scope: Any) -> None:
    server = FakeServer(CONNECT, *messages)
    asyncio.run(app(websocket_scope(path, extensions=DENIAL, **scope), server.receive, server.send))


def test_every_family_has_the_name_the_type_and_the_labels_of_the_table() -> None:
    app = app_with_routes()
    run(app, "/rooms/lobby", text("hello"), disconnect(1001))
    run(app, "/raises")
    run(app, "/nothing")
    asyncio.run(Group("alarms").asend("hi"))
    with override_settings(FASTWS={"MAX_CONNECTIONS": 100}):
        for families in (
            scrape(),
            scrape(parse_openmetrics, Accept="application/openmetrics-text; version=1.0.0"),
        ):
            assert {name: family.type for name, family in families.items()} == {
                name: kind for name, (kind, _) in FAMILIES.items() if name in families
            }
            for name, family in families.items():
                for sample in family.samples:
                    if not sample.name.endswith("_created"):
                        assert set(sample.labels) - {"le"} == FAMILIES[name][1], sample
            absent = FAMILIES.keys() - families.keys()
            assert absent == {"fastws_message_size_bytes"}


def test_the_buckets_are_those_of_the_table() -> None:
    run(app_with_routes(), "/rooms/lobby", disconnect(1001))
    asyncio.run(Group("alarms").asend("hi"))
    with override_settings(FASTWS={"METRICS_SIZES": True}):
        families = scrape()
    for name, bounds in BUCKETS.items():
        found = {sample.labels["le"] for sample in families[name].samples if sample.name.endswith("_bucket")}
        assert {float(each) for each in found} == {*map(float, bounds.split()), float("inf")}


def sizes(families: dict[str, Any], direction: str, route: str = "/rooms/{room}") -> list[float | None]:
    """How many messages have at most 64 and 256 bytes, how many there are, and how many bytes."""
    labels = {"route": route, "direction": direction}
    return [
        *(
            value(families, "fastws_message_size_bytes_bucket", **labels, le=bound)
            for bound in ("64.0", "256.0", "+Inf")
        ),
        value(families, "fastws_message_size_bytes_sum", **labels),
    ]


class UvicornLike(FakeServer):
    """A server whose module is one of uvicorn's."""


UvicornLike.__module__ = "uvicorn.protocols.websockets"


def test_sizes_of_messages_on_uvicorn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "is_thorough", True)
    app = app_with_routes()

    async def compare() -> None:
        server = UvicornLike(CONNECT, text("x" * 64), text("é" * 33), text("y" * 1000))
        with override_settings(FASTWS={"METRICS_SIZES": True}):
            server.start(app, websocket_scope("/rooms/lobby", extensions=DENIAL))
            while len(server.texts) < 3:
                await asyncio.sleep(0)
            is_open = await asyncio.to_thread(scrape)
            await server.leave()
            ended = await asyncio.to_thread(scrape)
        for found in (is_open, ended):
            assert sizes(found, "in") == sizes(found, "out") == [1, 2, 3, 1130]

    asyncio.run(compare())


def test_sizes_are_measured_only_with_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "is_thorough", True)
    server = UvicornLike(CONNECT, text("hello"), disconnect(1001))
    asyncio.run(app_with_routes()(websocket_scope("/rooms/lobby"), server.receive, server.send))
    totals = census.snapshot(everywhere)[1]["/rooms/{room}"]
    assert (totals.sizes_in.sum, totals.bytes_in) == (0, 5)
    assert "fastws_message_size_bytes" not in scrape()


def test_what_happens_is_counted() -> None:
    app = app_with_routes()
    for _ in range(3):
        run(app, "/rooms/lobby", text("hello"), text("you"), disconnect(1001))
    run(app, "/rooms/other", disconnect(3500))
    run(app, "/raises")
    run(app, "/nothing")
    found = scrape()
    room = {"route": "/rooms/{room}"}
    assert value(found, "fastws_connections", **room) == 0
    assert value(found, "fastws_handshakes", **room) == 0
    assert value(found, "fastws_connections_opened_total", **room) == 4
    assert value(found, "fastws_messages_total", **room, direction="in") == 6
    assert value(found, "fastws_connections_closed_total", **room, code="1001", by="client") == 3
    assert value(found, "fastws_connections_closed_total", **room, code="other", by="client") == 1
    assert value(found, "fastws_connection_duration_seconds_count", **room) == 4
    assert value(found, "fastws_handshake_duration_seconds_count", **room) == 4
    assert value(found, "fastws_exceptions_total", route="/raises", exception="KeyError") == 1
    assert (
        value(found, "fastws_connections_refused_total", route="/raises", status="500", reason="error") == 1
    )
    assert (
        value(found, "fastws_connections_refused_total", route="(none)", status="403", reason="not_found")
        == 1
    )


def test_open_connections_and_pending_handshakes_are_gauges() -> None:
    app = FastAPI()

    async def compare() -> None:
        go = asyncio.Event()

        @app.websocket("/ws")
        async def slow(websocket: WebSocket) -> None:
            await go.wait()
            await websocket.accept()
            await websocket.receive_text()

        server = FakeServer(CONNECT)
        server.start(app)
        await asyncio.sleep(0)
        found = await asyncio.to_thread(scrape)
        assert value(found, "fastws_handshakes", route="/ws") == 1
        assert value(found, "fastws_connections_opened_total", route="/ws") == 0
        go.set()
        await server.wait_sent("websocket.accept")
        found = await asyncio.to_thread(scrape)
        assert value(found, "fastws_connections", route="/ws") == 1
        assert value(found, "fastws_connections_opened_total", route="/ws") == 1
        server.hang_up(1000)
        await server.wait_ended()

    asyncio.run(compare())


def test_what_clients_choose_makes_no_series() -> None:
    app = app_with_routes()

    def series() -> set[tuple[str, frozenset[tuple[str, str]]]]:
        return {
            (sample.name, frozenset(sample.labels.items()))
            for family in scrape().values()
            for sample in family.samples
        }

    tenant = FastAPI()

    @tenant.websocket("/ws/{room}")
    async def join(websocket: WebSocket, room: str) -> None:
        await websocket.accept()
        await websocket.join(f"room.{room}")
        async for _ in websocket.iter_text():
            pass

    app.mount("/t/{tenant}", tenant)

    def visit(path: str, number: int, *messages: Any) -> None:
        headers = [(b"user-agent", f"agent-{number}".encode()), (b"origin", f"http://{number}".encode())]
        user, client = User(pk=number, username=f"user-{number}"), (f"10.0.0.{number % 256}", number)
        run(app, path, *messages, headers=headers, user=user, client=client, query_string=b"t=%d" % number)

    def visit_all(number: int) -> None:
        code = disconnect(3000 + number)
        visit(f"/rooms/{number}", number, code)
        visit(f"/t/{number}/ws/{number}", number, code)
        visit(f"/scan/{number}", number)
        visit(f"/t/{number}/nothing", number)

    visit_all(0)
    before = series()
    for number in range(1, 301):
        visit_all(number)
    assert series() == before
    routes = {dict(labels)["route"] for _, labels in before if "route" in dict(labels)}
    assert routes - {"(none)"} == {"/rooms/{room}", "/t/{tenant}/ws/{room}"}


def test_two_hundred_scrapes_under_load() -> None:
    app, counted = app_with_routes(), [0, 0]

    async def visit() -> None:
        server = FakeServer(CONNECT, text("one"), text("two"))
        server.start(app, websocket_scope("/rooms/lobby", extensions=DENIAL))
        while len(server.texts) < 2:
            await server.frame()
        await server.leave()
        counted[0] += 1
        counted[1] += 2

    def rising(found: dict[str, Any]) -> dict[Any, float]:
        """The samples that never fall. What earlier tests have left behind may still enter `(none)`."""
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in found.values()
            if family.type in ("counter", "histogram")
            for sample in family.samples
            if not sample.name.endswith("_created") and sample.labels.get("route") != "(none)"
        }

    async def compare() -> None:
        done = asyncio.Event()

        async def load() -> None:
            while not done.is_set():
                await asyncio.gather(*(visit() for _ in range(5)))

        await visit()
        loading = asyncio.create_task(load())
        first = before = rising(await asyncio.to_thread(scrape))
        for number in range(200):
            parser = parse_openmetrics if number % 2 else parse
            accept = {"Accept": "application/openmetrics-text"} if number % 2 else {}
            now = rising(await asyncio.to_thread(scrape, parser, **accept))
            assert now.keys() == before.keys()
            assert [key for key in now if now[key] < before[key]] == []
            before = now
        done.set()
        await loading
        found = await asyncio.to_thread(scrape)
        assert rising(found).keys() == first.keys()
        lobby = {"route": "/rooms/{room}"}
        assert value(found, "fastws_connections_opened_total", **lobby) == counted[0] > 200
        assert value(found, "fastws_messages_total", direction="in", **lobby) == counted[1]
        assert value(found, "fastws_connections", **lobby) == 0

    asyncio.run(compare())


def test_exceptions_beyond_a_hundred_are_one_series() -> None:
    scrape()
    for number in range(150):
        census.failed("/ws", type(f"Error{number}", (Exception,), {})())
    family = scrape()["fastws_exceptions"]
    counts = {sample.labels["exception"]: sample.value for sample in family.samples}
    assert (len(counts), counts["other"]) == (101, 50)


def test_routes_beyond_the_limit_are_one() -> None:
    app = app_with_routes()
    with override_settings(FASTWS={"METRICS_ROUTES": 1}):
        run(app, "/rooms/lobby", disconnect(1000))
        scrape()
        run(app, "/raises")
        run(app, "/nothing")
        found = scrape()
    routes = {sample.labels["route"] for sample in found["fastws_connections"].samples}
    assert routes == {"/rooms/{room}", "(other)"}
    assert value(found, "fastws_exceptions_total", route="(other)", exception="KeyError") == 1


def test_a_figure_that_fails_is_left_out_and_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def _broken() -> Iterator[Any]:
        raise RuntimeError("no figure")
        yield

    monkeypatch.setattr(prometheus, "SOURCES", (_broken, *prometheus.SOURCES))
    assert "fastws_info" in scrape()
    assert "fastws_info" in scrape()
    assert [each for each in caplog.messages if "no figure" in each] == [
        "The metrics of broken cannot be collected: RuntimeError('no figure')"
    ]


def test_draining_shows() -> None:
    assert value(scrape(), "fastws_draining") == 0
    health.drain()
    try:
        assert value(scrape(), "fastws_draining") == 1
    finally:
        health.undo()


def test_the_collector_enters_a_registry_once() -> None:
    registry = CollectorRegistry()
    prometheus.enter(registry)
    prometheus.enter(registry)
    assert [family.name for family in registry.collect()].count("fastws_info") == 1


# A project with the apps of the guide. It says whether the view and the page of django-prometheus have the
# figures, and whether there is a warning.
BESIDE = """
import django
from django.conf import settings
from django.core.checks import run_checks
from django.test import Client
from django.urls import include, path
settings.configure(
    SECRET_KEY="x",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF="__main__",
    INSTALLED_APPS=["fastws_compat", "django_prometheus", "fastws_compat.contrib.prometheus"],
)
django.setup()
from fastws_compat.contrib.prometheus import metrics
urlpatterns = [path("metrics/sockets", metrics), path("", include("django_prometheus.urls"))]
own, all = (Client().get(path).content.decode() for path in ("/metrics/sockets", "/metrics"))
warnings = [message.id for message in run_checks()]
print("fastws_info{" in own, "fastws_info{" in all, "fastws.W011" in warnings)
"""


@pytest.mark.parametrize(
    ("environment", "answers"),
    [({}, "True True False"), ({"PROMETHEUS_MULTIPROC_DIR": "."}, "True False True")],
    ids=["default", "multiprocess"],
)
def test_beside_django_prometheus(environment: dict[str, str], answers: str, tmp_path: Path) -> None:
    """In multiprocess mode its page consists of files that the processes write; a collector has none."""
    ran = subprocess.run(
        [sys.executable, "-c", BESIDE],
        env={**os.environ, "PYTHONPATH": str(DOCS.parent), **environment},
        cwd=tmp_path,
        text=True,
        capture_output=True,
        timeout=60,
    )
    assert ran.stdout.strip() == answers, ran.stderr


@pytest.mark.parametrize(
    ("token", "header", "address", "status"),
    [
        (None, None, "127.0.0.1", 200),
        (None, None, "10.0.0.7", 403),
        ("", "Bearer ", "10.0.0.7", 403),
        ("secret", None, "10.0.0.7", 403),
        ("secret", "Bearer wrong", "10.0.0.7", 403),
        ("secret", "Bearer secret", "10.0.0.7", 200),
        ("secret", None, "127.0.0.1", 200),
        ("secret", "Bearer secret", "127.0.0.1", 200),
        ("geheim-ä", "Bearer geheim-ä".encode().decode("latin-1"), "203.0.113.7", 200),  # as servers pass it
        ("geheim-ä", "Bearer geheim-ö".encode().decode("latin-1"), "203.0.113.7", 403),
        ("secret", "Bearer \u0416", "203.0.113.7", 403),
    ],
)
def test_who_may_gather_from_all_processes(
    token: str | None, header: str | None, address: str, status: int
) -> None:
    headers = {} if header is None else {"Authorization": header}
    request = RequestFactory().get("/metrics?all=1", headers=headers, REMOTE_ADDR=address)
    with override_settings(FASTWS={"METRICS_TOKEN": token}):
        response = prometheus.metrics(request)
    assert response.status_code == status
    if status == 200:
        families = list(parse(response.content.decode()))
        assert families
        assert all("process" in sample.labels for family in families for sample in family.samples)


@pytest.mark.parametrize("name", prometheus.FORWARDED)
def test_client_behind_a_proxy_on_this_machine_is_not_local(name: str) -> None:
    request = RequestFactory().get("/metrics?all=1", headers={name: "203.0.113.7"}, REMOTE_ADDR="127.0.0.1")
    assert prometheus.metrics(request).status_code == 403


@pytest.mark.parametrize(
    "setting", [{"USE_X_FORWARDED_HOST": True}, {"SECURE_PROXY_SSL_HEADER": ("HTTP_X_SCHEME", "https")}]
)
def test_project_behind_a_proxy_has_no_local_clients(setting: dict[str, Any]) -> None:
    request = RequestFactory().get("/metrics?all=1", REMOTE_ADDR="127.0.0.1")
    with override_settings(**setting):
        assert prometheus.metrics(request).status_code == 403


def test_an_answer_to_another_process_keeps_every_sample() -> None:
    from fastws_compat.contrib import gathering
    from fastws_compat.operations import answers

    run(app_with_routes(), "/rooms/lobby", disconnect(1000))
    answer = asyncio.run(answers.respond({"op": gathering.OPERATION, "id": "1"}))
    newer = [[*family, {"unit": "seconds"}] for family in answer["families"]]
    families = {family.name: family for family in map(gathering.unpacked, newer)}
    assert value(families, "fastws_connections_opened_total", route="/rooms/{room}") == 1
    assert families["fastws_connection_duration_seconds"].type == "histogram"


@pytest.mark.parametrize("name", ["grafana.json", "alerts.yml"])
def test_the_shipped_files_name_only_metrics_that_exist(name: str) -> None:
    used = set(re.findall(r"\bfastws_[a-z_]+\b", (DOCS / name).read_text()))
    known = set()
    for family, (kind, _) in FAMILIES.items():
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}[kind]
        known |= {family + suffix for suffix in suffixes}
    assert used
    assert used <= known


@pytest.mark.parametrize("name", ["grafana.json", "alerts.yml"])
def test_the_shipped_files_tell_processes_apart_that_share_an_instance(name: str) -> None:
    """With `?all=1`, one instance has the metrics of all processes."""
    groups = re.findall(r"by \(([^)]*\binstance\b[^)]*)\)", (DOCS / name).read_text())
    assert groups
    assert all("process" in labels for labels in groups)
