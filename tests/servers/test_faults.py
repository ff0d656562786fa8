"""A fault at every point of a connection: everything is cleaned up once, and nothing leaks."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import websockets.asyncio.client
from websockets.sync.client import ClientConnection

from tests.servers.client import Raw, frame, open_socket, unique
from tests.servers.conftest import Running, Server, in_turn
from tests.servers.faults import BACK_SECONDS, CLIENT_FAULTS, OWN_FAULTS, POINTS, SYNC, THREADS
from tests.servers.test_wire_fuzz import Listener, handshake
from tests.sizes import size

pytestmark = [pytest.mark.servers, pytest.mark.unmeasured]

DJANGO, LOCAL = "tests.servers.faults_django:app", "tests.servers.faults:app"
# Channels' in-memory layer, and the process's own layer if there is none.
on_every_layer = in_turn("app", {"in_memory_layer": DJANGO, "local_layer": LOCAL})
GRACE = {"FASTWS": '{"SHUTDOWN_GRACE": 1}'}
PAIRS = size("FASTWS_PAIRS", 200, 1000)
AT_A_TIME = 50


def ask(control: ClientConnection, command: str) -> Any:
    control.send(command)
    return json.loads(control.recv(timeout=20))


@contextmanager
def control_of(running: Running) -> Iterator[tuple[ClientConnection, dict[str, Any]]]:
    """The control socket, and what the process holds while nothing else is connected."""
    with open_socket(running, "/control") as control:
        warm(running, control)
        yield control, settled(control)


def warm(running: Running, control: ClientConnection) -> None:
    """Start all threads of both pools and connect them to the database."""
    for point in SYNC:
        names = [unique() for _ in range(THREADS)]
        clients = [Raw(running, f"/fault/{point}/together/{name}") for name in names]
        for client, name in zip(clients, names, strict=True):
            assert ask(control, f"reached {name}")
            assert ask(control, f"ended {name}") == []
            client.socket.close()


def settled(control: ClientConnection) -> dict[str, Any]:
    """The stats, once nothing is open and two in a row are equal."""
    before: dict[str, Any] = {}
    while (now := ask(control, "stats"))["held"] != before.get("held") or now["open"]:
        before = now
        time.sleep(0.2)
    if not now["held"]["local"] and not now["held"]["databases"]:
        # The async ORM keeps its connection open for a while.
        now["held"]["databases"] += 1
        now["held"]["files"] += 1
    return now


def check_back(control: ClientConnection, before: dict[str, Any], case: object) -> None:
    """Assert that the process holds no more than before within two seconds."""
    # In many short commands: a control socket that is busy for long would have a read-ahead task.
    for _ in range(BACK_SECONDS * 20):
        if is_back(now := ask(control, "stats"), before):
            break
        time.sleep(0.05)
    check(now, before, case)


def is_back(now: dict[str, Any], before: dict[str, Any]) -> bool:
    return not now["open"] and all(now["held"][what] <= count for what, count in before["held"].items())


def check(now: dict[str, Any], before: dict[str, Any], case: object) -> None:
    """Assert that everything has ended once, and that no more is held than before."""
    assert now["open"] == {}, case
    assert now["repeated"] == [], case
    more = {what: count - before["held"][what] for what, count in now["held"].items()}
    assert {what: count for what, count in more.items() if count > 0} == {}, (case, now["running"])


def strike(client: Client, fault: str) -> None:
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
    """A client that records whether its handshake has been answered."""

    @property
    def answered(self) -> bool:
        self.socket.setblocking(False)
        try:
            return bool(self.socket.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return False
        finally:
            self.socket.settimeout(5)


@on_every_layer
@pytest.mark.parametrize("fault", [*OWN_FAULTS, *CLIENT_FAULTS])
def test_fault_at_every_point(server: Server, app: str, fault: str) -> None:
    running = server.shared(app)
    with control_of(running) as (control, before):
        assert before["held"]["local"] == (app == LOCAL)
        assert [before["held"][what] for what in ("members", "groups", "channels")] == [0, 0, 0]
        for point in POINTS:
            name = unique()
            with (client := Client(running, f"/fault/{point}/{fault}/{name}")):
                assert ask(control, f"reached {name}"), point
                strike(client, fault)
                control.send(f"go {name}")
                assert ask(control, f"ended {name}") == [], point
            check_back(control, before, point)


@on_every_layer
@pytest.mark.parametrize("point", ["after_accept", "in_sync_dependency"])
def test_what_is_held_is_counted(server: Server, app: str, point: str) -> None:
    running, name = server.shared(app), unique()
    with control_of(running) as (control, before), Raw(running, f"/fault/{point}/close/{name}") as client:
        assert ask(control, f"reached {name}")
        now = ask(control, "stats")
        held = {what: count - before["held"][what] for what, count in now["held"].items()}
        assert held["members"] == held["groups"] == 1
        assert held["channels"] == (app == LOCAL)
        assert held["tasks"] >= 1
        assert now["open"].pop(f"endpoint {name}", 0) == (point == "after_accept")
        assert now["open"] == {f"resource {name}": 1, f"sync_resource {name}": 1}
        # The thread has an open connection to the database.
        assert held["databases"] == (app == DJANGO and point == "in_sync_dependency")
        assert held["files"] >= 1 + held["databases"]
        client.socket.close()
        control.send(f"go {name}")
        check_back(control, before, name)


# Seeded pairs of a point and a fault, many at once


def pairs(count: int) -> list[tuple[str, str, float]]:
    dice = random.Random(2026)
    faults = [*OWN_FAULTS, *CLIENT_FAULTS]
    return [(dice.choice(POINTS), dice.choice(faults), dice.random() / 100) for _ in range(count)]


Control = websockets.asyncio.client.ClientConnection


async def say(control: Control, command: str) -> Any:
    await control.send(command)
    return json.loads(await asyncio.wait_for(control.recv(), 20))


async def suffer(running: Running, control: Control, pair: tuple[str, str, float]) -> None:
    """One connection with a fault. A fault of the client follows shortly after the point is reached."""
    (point, fault, delay), name = pair, unique()
    loop = asyncio.get_running_loop()
    transport, listener = await loop.create_connection(Listener, "127.0.0.1", running.port)
    transport.write(handshake(f"/fault/{point}/{fault}/{name}") + b"\r\n")
    try:
        assert await say(control, f"reached {name}"), pair
        if fault in CLIENT_FAULTS:
            await asyncio.sleep(delay)
            strike_transport(transport, listener, fault)
        await control.send(f"go {name}")
        assert await say(control, f"ended {name}") == [], pair
    finally:
        transport.abort()


def strike_transport(transport: asyncio.Transport, listener: Listener, fault: str) -> None:
    match fault:
        case "close" if listener.found:
            transport.write(frame(8, b"\x03\xe9"))
        case "close":
            transport.close()
        case "reset":
            linger = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.get_extra_info("socket").setsockopt(*linger)
            transport.abort()
        case "half_close" if not transport.is_closing():
            transport.write_eof()


@pytest.mark.sized
@on_every_layer
def test_a_thousand_faults_leave_nothing_behind(server: Server, app: str) -> None:
    running = server.shared(app)

    async def run(control: ClientConnection) -> None:
        connect, url = websockets.asyncio.client.connect, running.url("/control")
        controls = [await connect(url, compression=None, proxy=None) for _ in range(AT_A_TIME)]
        before = await asyncio.to_thread(settled, control)
        for start in range(0, PAIRS, AT_A_TIME):
            cases = pairs(PAIRS)[start : start + AT_A_TIME]
            await asyncio.gather(*map(suffer, [running] * AT_A_TIME, controls, cases))
            # A control socket that was busy for long has a read-ahead task until its next command arrives.
            await asyncio.gather(*(say(control, "ended nothing") for control in controls))
            await asyncio.to_thread(check_back, control, before, f"pairs from {start}")
        await asyncio.gather(*(control.close() for control in controls))

    with control_of(running) as (control, before):
        asyncio.run(run(control))
        check_back(control, before, "all pairs")


@on_every_layer
def test_sigterm_at_every_point(server: Server, app: str) -> None:
    options = [] if server.is_daphne else ["--timeout-graceful-shutdown", "1"]
    running = server.start(app, *options, env=GRACE)
    clients, names = [], {}
    with open_socket(running, "/control") as control:
        for point in POINTS:
            name = names[point] = unique()
            clients.append(Raw(running, f"/fault/{point}/sigterm/{name}"))
        for point in POINTS:
            if point not in SYNC:
                assert ask(control, f"reached {names[point]}"), point
        running.signal()
    running.wait()
    for client in clients:
        client.socket.close()
    lines = running.logs().splitlines()
    began = sorted(line.removeprefix("BEGAN ") for line in lines if line.startswith("BEGAN "))
    ended = sorted(line.removeprefix("ENDED ") for line in lines if line.startswith("ENDED "))
    assert began == ended
    assert len(set(began)) == len(began) >= len(POINTS)
