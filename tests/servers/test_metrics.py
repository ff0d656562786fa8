"""Metrics, the access log, probes and the drain on real servers."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, closing
from http.client import HTTPConnection
from typing import Any

import pytest
import websockets
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tests.servers.client import Raw, open_socket
from tests.servers.conftest import Running, Server, wait_for
from tests.sizes import size
from tests.test_database import running as postgresql
from tests.test_metrics import FAMILIES

pytestmark = pytest.mark.servers

SITE = "tests.servers.measured:application"
ROOM = {"route": "/rooms/{room}"}


def fetch(running: Running, path: str, host: str | None = None) -> tuple[int, str]:
    request = urllib.request.Request(running.http(path), headers={} if host is None else {"Host": host})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def figures(running: Running) -> dict[tuple[str, frozenset[Any]], float]:
    status, text = fetch(running, "/metrics/sockets")
    assert status == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_figures_are_those_that_the_clients_counted(server: Server) -> None:
    running = server.start(SITE, env={"FASTWS": json.dumps({"METRICS_SIZES": True})})

    def value(name: str, **labels: str) -> float | None:
        return figures(running).get((name, frozenset({**ROOM, **labels}.items())))

    with open_socket(running, "/rooms/a") as client, open_socket(running, "/rooms/b") as other:
        for _ in range(3):
            client.send("hello")
            assert client.recv() == "hello"
        other.send("close")
        with pytest.raises(websockets.ConnectionClosed):
            other.recv(timeout=10)
        wait_for(lambda: value("fastws_connections") == 1)
        assert value("fastws_connections_opened_total") == 2
        assert value("fastws_messages_total", direction="in") == 4
        assert value("fastws_messages_total", direction="out") == 3
        assert value("fastws_message_bytes_total", direction="in") == 20
        assert value("fastws_message_bytes_total", direction="out") == 15
    with open_socket(running, "/rooms/c") as lost:
        lost.socket.close()
    wait_for(lambda: value("fastws_connections") == 0)
    for direction, count, total in (("in", 4, 20), ("out", 3, 15)):
        assert value("fastws_message_size_bytes_count", direction=direction) == count
        assert value("fastws_message_size_bytes_sum", direction=direction) == total
    assert value("fastws_connections_closed_total", code="4001", by="server") == 1
    assert value("fastws_connections_closed_total", code="1000", by="client") == 1
    assert value("fastws_connections_closed_total", code="1006", by="lost") == 1
    with pytest.raises(websockets.InvalidStatus):
        open_socket(running, "/nothing?token=secret")
    wait_for(lambda: "refused" in running.logs())
    lines = [line.split(" after ")[0] for line in running.logs().splitlines() if line.startswith("ACCESS")]
    assert sorted(lines) == [
        "ACCESS (none) refused 403 not_found",
        "ACCESS /rooms/{room} closed 1000 by client",
        "ACCESS /rooms/{room} closed 1006 by lost",
        "ACCESS /rooms/{room} closed 4001 by server",
    ]


def test_a_lost_connection_has_the_same_code_in_the_signal_and_in_the_log(server: Server) -> None:
    running = server.start(SITE)
    with open_socket(running, "/rooms/a") as lost:
        lost.socket.shutdown(socket.SHUT_RDWR)
    wait_for(lambda: "ACCESS /rooms/{room} closed 1006 by lost" in running.logs())
    assert "SIGNAL /rooms/{room} 1006\n" in running.logs()


def test_a_handshake_whose_client_has_left_is_not_refused(server: Server) -> None:
    running = server.start(SITE, env={"FASTWS": json.dumps({"HANDSHAKE_TIMEOUT": 1})})
    with Raw(running, "/unanswered"):
        wait_for(lambda: "HANDSHAKE\n" in running.logs())
    wait_for(lambda: "ACCESS /unanswered" in running.logs())
    assert "ACCESS /unanswered closed 1006 by lost" in running.logs()
    assert "was not answered" not in running.logs()


def test_a_handshake_that_the_stopping_server_has_refused_is_not_refused_again(server: Server) -> None:
    values = {"HANDSHAKE_TIMEOUT": 1, "DRAIN_DELAY": 0, "DRAIN_SPREAD": 0, "SHUTDOWN_GRACE": 5}
    running = server.start(SITE, env={"FASTWS": json.dumps(values)})
    with Raw(running, "/unanswered") as client:
        wait_for(lambda: "HANDSHAKE\n" in running.logs())
        running.signal()
        assert client.answer().split()[1] == (b"503" if server.is_daphne else b"500")
        running.wait()
    end = "refused 503 stopping" if server.is_daphne else "closed 1006 by lost"
    assert f"ACCESS /unanswered {end}" in running.logs()
    assert "was not answered" not in running.logs()


SCRAPES = size("FASTWS_SCRAPES", 40, 200)
SOCKETS_PER_SECOND = 50


class Load:
    """Clients that come, send two messages, get two, and leave."""

    def __init__(self, running: Running) -> None:
        self._url = running.url("/rooms/load")
        self.sockets = self.bytes = 0

    async def visit(self) -> None:
        async with websockets.connect(self._url, compression=None, proxy=None, open_timeout=60) as client:
            for text in ("one", "three"):
                await client.send(text)
                assert await asyncio.wait_for(client.recv(), 60) == text
                self.bytes += len(text)
        self.sockets += 1

    async def run(self, until: threading.Event) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        async with asyncio.TaskGroup() as visits:
            while not until.is_set():
                visits.create_task(self.visit())
                due += 1 / SOCKETS_PER_SECOND
                await asyncio.sleep(due - loop.time())


def scrape(running: Running, is_open: bool) -> dict[str, Any]:
    """The families in one of the two formats; the parser of OpenMetrics is the strict one."""
    parser, accept = (
        (parse_openmetrics, "application/openmetrics-text")
        if is_open
        else (text_string_to_metric_families, "")
    )
    request = urllib.request.Request(running.http("/metrics/sockets"), headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=60) as response:
        return {family.name: family for family in parser(response.read().decode())}


def rising(families: dict[str, Any]) -> dict[Any, float]:
    """The samples that never fall."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families.values()
        if family.type in ("counter", "histogram")
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@pytest.mark.sized
def test_scrapes_while_sockets_come_and_go(server: Server) -> None:
    running, done = server.start(SITE), threading.Event()
    load, began = Load(running), time.monotonic()
    before: dict[Any, float] = {}
    with ThreadPoolExecutor(1) as threads:
        loading = threads.submit(lambda: asyncio.run(load.run(done)))
        try:
            for number in range(SCRAPES):
                found = scrape(running, is_open=bool(number % 2))
                for name, family in found.items():
                    kind, labels = FAMILIES[name]
                    assert family.type == kind, name
                    for sample in family.samples:
                        assert {*sample.labels} - {"le"} == labels, sample
                now = rising(found)
                assert before.keys() <= now.keys()
                assert {key: value for key, value in before.items() if now[key] < value} == {}
                before = now
        finally:
            done.set()
        loading.result(120)
    route = {"route": "/rooms/{room}"}
    wait_for(lambda: figures(running)["fastws_connections", frozenset(route.items())] == 0)
    found = figures(running)
    assert load.sockets > 10
    assert found["fastws_connections_opened_total", frozenset(route.items())] == load.sockets
    ended = {**route, "code": "1000", "by": "client"}
    assert found["fastws_connections_closed_total", frozenset(ended.items())] == load.sockets
    for direction in ("in", "out"):
        labels = frozenset({**route, "direction": direction}.items())
        assert found["fastws_messages_total", labels] == 2 * load.sockets
        assert found["fastws_message_bytes_total", labels] == load.bytes
    rate = load.sockets / (time.monotonic() - began)
    print(f"{SCRAPES} scrapes while {load.sockets} sockets came and went, {rate:.0f} per second")


def answer(running: Running, path: str, method: str = "GET", host: str = "127.0.0.1") -> tuple[int, str]:
    """Like `fetch`, but without following redirects."""
    client = HTTPConnection("127.0.0.1", running.port, timeout=20)
    with closing(client):
        client.request(method, path, headers={"Host": host})
        response = client.getresponse()
        return response.status, response.read().decode()


def test_probes_touch_neither_hosts_nor_redirects_nor_the_database(server: Server) -> None:
    with postgresql() as database:
        running = server.start(SITE, env={"DATABASE": json.dumps(database.settings("postgres"))})
        assert answer(running, "/database") == (200, "1")
    # PostgreSQL has stopped.
    assert answer(running, "/database")[0] == 500
    assert answer(running, "/page")[0] == 301
    assert answer(running, "/page", host="wrong.example")[0] == 400
    for path, word in (("live", "live"), ("ready", "ready"), ("ready/sockets", "ready")):
        assert answer(running, f"/-/{path}", host="wrong.example") == (200, word)
        assert answer(running, f"/-/{path}", "HEAD", host="wrong.example") == (200, "")


def test_probes_are_found_below_a_root_path(server: Server) -> None:
    running = server.start(SITE, "--root-path", "/app")
    assert answer(running, "/-/ready", host="wrong.example") == (200, "ready")


def test_a_probe_says_so_within_100_ms_of_sigterm(daphne: Server) -> None:
    """The best of three: the machine may be busy, but nothing waits for a timer."""

    def took() -> float:
        running = daphne.start(SITE)
        assert fetch(running, "/-/ready") == (200, "ready")
        running.signal(signal.SIGTERM)
        began = time.monotonic()
        while (found := fetch(running, "/-/ready")) == (200, "ready"):
            pass
        seconds = time.monotonic() - began
        assert found == (503, "draining")
        return seconds

    times = [took()]
    while times[-1] > 0.1 and len(times) < 3:
        times.append(took())
    assert times[-1] <= 0.1, times


def test_sigterm_on_daphne_is_announced_before_the_server_stops(daphne: Server) -> None:
    running = daphne.start(SITE)
    assert "Stopping takes up to 5.9 s" in running.logs()
    with ExitStack() as stack:
        clients = [stack.enter_context(open_socket(running, f"/rooms/{number}")) for number in range(20)]
        running.signal(signal.SIGTERM)
        stopped = time.monotonic()
        wait_for(lambda: fetch(running, "/-/ready") == (503, "draining"))
        late = stack.enter_context(open_socket(running, "/rooms/late"))  # it still serves
        late.send("hello")
        assert late.recv() == "hello"
        closed = []
        for client in [*clients, late]:
            with pytest.raises(websockets.ConnectionClosed) as caught:
                client.recv(timeout=10)
            assert caught.value.rcvd is not None
            closed.append(caught.value.rcvd.code)
    assert closed == [1012] * 21
    assert time.monotonic() - stopped > 3.5
    running.wait(10)
    lines = [line for line in running.logs().splitlines() if line.startswith("ACCESS")]
    assert sum("closed 1012 by server" in line for line in lines) == 21


@pytest.mark.sized
def test_three_hundred_sockets_are_closed_over_the_spread(daphne: Server) -> None:
    count, spread = size("FASTWS_DRAINED", 100, 300), 3
    running = daphne.start(SITE, env={"FASTWS": json.dumps({"DRAIN_DELAY": 0, "DRAIN_SPREAD": spread})})

    async def one(stack: AsyncExitStack) -> websockets.ClientConnection:
        client = websockets.connect(running.url("/rooms/a"), compression=None, proxy=None, open_timeout=60)
        return await stack.enter_async_context(client)

    async def closed(client: websockets.ClientConnection) -> float:
        with pytest.raises(websockets.ConnectionClosed) as caught:
            await asyncio.wait_for(client.recv(), 60)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1012
        return time.monotonic()

    async def drained() -> list[float]:
        async with AsyncExitStack() as stack:
            clients = [await one(stack) for _ in range(count)]
            running.signal(signal.SIGTERM)
            began = time.monotonic()
            return sorted(at - began for at in await asyncio.gather(*map(closed, clients)))

    times = asyncio.run(drained())
    running.wait(10)
    [total] = re.findall(r"Stopping takes up to ([\d.]+) s", running.logs())
    assert times[-1] < float(total)
    most = max(sum(start <= at < start + 1 for at in times) for start in times)
    print(f"{count} sockets were closed within {times[-1]:.2f} s, at most {most} in a second")
    assert most <= count / 2
