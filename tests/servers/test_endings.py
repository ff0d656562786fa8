"""The time that the process takes to exit, by its own clock, with connections at many points."""

from __future__ import annotations

import json
import time

import pytest

from tests.servers.client import Raw, open_socket, unique
from tests.servers.conftest import Server

pytestmark = [pytest.mark.servers, pytest.mark.loops]

TIMED = "tests.servers.faults_timed:app"
GRACE = {"FASTWS": '{"SHUTDOWN_GRACE": 1}'}


def test_process_leaves_within_the_grace_and_a_second(daphne: Server) -> None:
    running = daphne.start(TIMED, env=GRACE)
    clients = []
    with open_socket(running, "/control") as control:
        for point in ("in_dependency", "before_accept", "after_accept", "in_send"):
            name = unique()
            clients.append(Raw(running, f"/fault/{point}/sigterm/{name}"))
            control.send(f"reached {name}")
            assert json.loads(control.recv(timeout=20))
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
    print(f"exited {took:.2f} s after SIGTERM with a grace of 1 s")
    assert 0.9 < took <= 2


@pytest.mark.parametrize("how", ["reset", "close"])
def test_guard_before_close_after_a_send_that_failed(server: Server, how: str) -> None:
    running = server.start("tests.servers.sockets:app")
    client = Raw(running, "/guarded").accepted()
    assert client.frame()[0] == 1
    if how == "reset":
        client.reset()
    else:
        client.socket.close()
    deadline = time.monotonic() + 20
    while "EVENT guarded" not in running.logs() and "ERROR" not in running.logs():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "EVENT guarded DISCONNECTED" in running.logs()
    assert "Traceback" not in running.logs()
