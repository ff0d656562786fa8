"""Metrics, the access log, probes and the drain on real servers."""

from __future__ import annotations

import signal
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from typing import Any

import pytest
import websockets
from prometheus_client.parser import text_string_to_metric_families

from tests.servers.client import open_socket
from tests.servers.conftest import Running, Server, wait_for

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
    running = server.start(SITE)

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


def test_probes_answer_whatever_the_host_is(server: Server) -> None:
    running = server.shared(SITE)
    assert fetch(running, "/-/live", "wrong.example") == (200, "live")
    assert fetch(running, "/-/ready", "wrong.example") == (200, "ready")
    assert fetch(running, "/-/ready/sockets", "wrong.example") == (200, "ready")


def test_sigterm_on_daphne_is_announced_before_the_server_stops(daphne: Server) -> None:
    running = daphne.start(SITE)
    assert "Stopping takes up to 5.9 s" in running.logs()
    with ExitStack() as stack:
        clients = [stack.enter_context(open_socket(running, f"/rooms/{number}")) for number in range(20)]
        running.signal(signal.SIGTERM)
        stopped = time.monotonic()
        wait_for(lambda: fetch(running, "/-/ready") == (503, "draining"), 2.5)
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
