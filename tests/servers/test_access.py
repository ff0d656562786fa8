"""The access log of every ending: one line, with what the client saw of it."""

from __future__ import annotations

import re

import pytest

from tests.servers.client import open_socket, unique
from tests.servers.conftest import Running, Server, wait_for
from tests.servers.faults import CLIENT_FAULTS, OWN_FAULTS, POINTS
from tests.servers.test_faults import Client, ask, strike

pytestmark = pytest.mark.servers

APP = "tests.servers.faults_logged:app"
EARLY = POINTS[: POINTS.index("after_accept")]
RAISED = ("exception", "escape", "timeout")


def ends(running: Running) -> list[tuple[str, str]]:
    """The ids of the connections that have ended, and how each ended."""
    found = re.findall(r"^ACCESS (\w+) /fault/\S+ (refused .+|closed \d+ by \w+)", running.logs(), re.M)
    return list(found)


def expected(point: str, fault: str, server: Server) -> str:
    """How a connection with a fault at a point ends."""
    if point in EARLY:
        if fault in CLIENT_FAULTS:
            return "closed 1006 by lost"
        if fault != "return":
            return "refused 500 error"
        # Only the endpoint can return; the others go on, and the endpoint closes at its end.
        return "refused 403 endpoint" if point == "before_accept" else "closed 1000 by server"
    if point == "in_close":
        return "closed 4000 by server"
    if fault == "cancel":
        return "closed 1011 by server" if server.is_daphne else "closed 1006 by lost"
    if fault == "close":
        return "closed 1001 by client"
    if fault in CLIENT_FAULTS:
        return "closed 1006 by lost"
    return f"closed {1011 if fault in RAISED else 1000} by server"


def end_of(client: Client) -> str | None:
    """The end that a client sees; None if the server drops an open connection without a close frame."""
    head = client.answer()
    if (status := int(head.split()[1])) != 101:
        return f"refused {status}"
    try:
        while True:
            opcode, payload = client.frame()
            if opcode == 8:
                return f"closed {int.from_bytes(payload[:2])}"
    except (AssertionError, ConnectionError):
        return None


@pytest.mark.parametrize("fault", [*OWN_FAULTS, *CLIENT_FAULTS])
def test_every_fault_leaves_one_line(server: Server, fault: str) -> None:
    running = server.shared(APP)
    before = len(ends(running))
    with open_socket(running, "/control") as control:
        for number, point in enumerate(POINTS, 1):
            name = unique()
            with (client := Client(running, f"/fault/{point}/{fault}/{name}")):
                assert ask(control, f"reached {name}"), point
                strike(client, fault)
                control.send(f"go {name}")
                if fault in OWN_FAULTS:
                    seen = end_of(client)
                wait_for(lambda number=number: len(ends(running)) == before + number)  # type: ignore[misc]
            _, end = ends(running)[-1]
            assert end == expected(point, fault, server), point
            if fault in OWN_FAULTS:
                assert seen == (None if end.endswith("lost") else re.match(r"\w+ \d+", end)[0]), point  # type: ignore[index]
        ids = [id for id, _ in ends(running)[before:]]
        assert len({*ids}) == len(POINTS)
