"""A fault at every point of a connection: what began has ended, once, and the server is as it was before."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import pytest
from websockets.sync.client import ClientConnection

from tests.servers.client import Raw, open_socket, unique
from tests.servers.conftest import Running, Server
from tests.servers.faults import CLIENT_FAULTS, OWN_FAULTS, POINTS, SYNC

pytestmark = pytest.mark.servers

APP = "tests.servers.faults:app"
TIMED = "tests.servers.faults_timed:app"
GRACE = {"FASTWS": '{"SHUTDOWN_GRACE": 1}'}
HELD = ("tasks", "threads", "files")


def stats(control: ClientConnection) -> dict[str, Any]:
    control.send("stats")
    found: dict[str, Any] = json.loads(control.recv(timeout=10))
    return found


def warm(running: Running, control: ClientConnection) -> dict[str, Any]:
    """What the process holds when its threads have started: each pool has eight, when they were needed."""
    clients = [Raw(running, f"/fault/in_sync_dependency/none/{unique()}") for _ in range(16)]
    for client in clients:
        client.answer()
        client.socket.close()
    return settled(control)


def settled(control: ClientConnection) -> dict[str, Any]:
    """The books when nothing has changed any more for a while."""
    before: dict[str, Any] = {}
    while (now := stats(control)) != before:
        before = now
        time.sleep(0.3)
    return now


def until_ended(control: ClientConnection, name: str) -> None:
    deadline = time.monotonic() + 10
    while any(key.endswith(f" {name}") for key in stats(control)["open"]) and time.monotonic() < deadline:
        time.sleep(0.005)


def until_back(control: ClientConnection, before: dict[str, Any]) -> dict[str, Any]:
    """The books once everything has ended and nothing more is held than before, or after ten seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        now = stats(control)
        if not now["open"] and all(now[name] <= before[name] for name in HELD):
            break
        time.sleep(0.02)
    return now


def strike(client: Raw, fault: str) -> None:
    match fault:
        case "close":
            if not client.answered:
                client.socket.close()
            else:
                client.send(8, b"\x03\xe9")
        case "reset":
            client.reset()
        case "half_close":
            client.socket.shutdown(socket.SHUT_WR)


class Client(Raw):
    """Knows whether its handshake was answered already."""

    @property
    def answered(self) -> bool:
        self.socket.setblocking(False)
        try:
            return bool(self.socket.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return False
        finally:
            self.socket.settimeout(5)


@pytest.mark.parametrize("fault", [*OWN_FAULTS, *CLIENT_FAULTS])
def test_fault_at_every_point(server: Server, fault: str) -> None:
    running = server.shared(APP)
    with open_socket(running, "/control") as control:
        before = warm(running, control)
        for point in POINTS:
            name = unique()
            with Client(running, f"/fault/{point}/{fault}/{name}") as client:
                control.send(f"reached {name}")
                assert control.recv(timeout=5) == "yes", point
                strike(client, fault)
                control.send(f"go {name}")
                until_ended(control, name)
        now = until_back(control, before)
    assert now["open"] == {}
    assert now["repeated"] == []
    assert [now[name] <= before[name] for name in HELD] == [True] * len(HELD), (before, now)


def test_sigterm_at_every_point(server: Server) -> None:
    options = [] if server.is_daphne else ["--timeout-graceful-shutdown", "1"]
    running = server.start(TIMED, *options, env=GRACE)
    clients, names = [], {}
    with open_socket(running, "/control") as control:
        for point in POINTS:
            name = names[point] = unique()
            clients.append(Raw(running, f"/fault/{point}/sigterm/{name}"))
        for point in POINTS:
            if point not in SYNC:
                control.send(f"reached {names[point]}")
                assert control.recv(timeout=5) == "yes", point
        running.signal()
    running.wait()
    for client in clients:
        client.socket.close()
    lines = running.logs().splitlines()
    began = sorted(line.removeprefix("BEGAN ") for line in lines if line.startswith("BEGAN "))
    ended = sorted(line.removeprefix("ENDED ") for line in lines if line.startswith("ENDED "))
    assert began == ended
    assert len(set(began)) == len(began) >= len(POINTS)


def test_process_leaves_within_the_grace_and_a_second(daphne: Server) -> None:
    """Measured inside the process; the promise is 2 s, a loaded machine gets more."""
    running = daphne.start(TIMED, env=GRACE)
    clients = []
    with open_socket(running, "/control") as control:
        for point in ("in_dependency", "before_accept", "after_accept", "in_send"):
            name = unique()
            clients.append(Raw(running, f"/fault/{point}/sigterm/{name}"))
            control.send(f"reached {name}")
            control.recv(timeout=5)
        with running.connect() as half_open:
            half_open.sendall(b"GET / HTTP/1.1\r\nHost: a")
            running.signal()
            running.wait()
    for client in clients:
        client.socket.close()
    times = dict(
        line.split() for line in running.logs().splitlines() if line.startswith(("SIGTERM ", "EXIT "))
    )
    took = float(times["EXIT"]) - float(times["SIGTERM"])
    print(f"left {took:.2f} s after SIGTERM with a grace of 1 s")
    assert 0.9 < took < 4
