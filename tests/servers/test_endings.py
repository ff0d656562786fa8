"""What the process itself says about how long it takes to leave, with connections at many points."""

from __future__ import annotations

import json

import pytest

from tests.servers.client import Raw, open_socket, unique
from tests.servers.conftest import Server

pytestmark = pytest.mark.servers

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
    print(f"left {took:.2f} s after SIGTERM with a grace of 1 s")
    assert 0.9 < took <= 2
