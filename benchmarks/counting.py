"""What metrics cost a server: its CPU time for a connection and for a message, without and with them.

    python -m benchmarks.counting [--quick]

Two processes differ by more than what is measured, so one process counts and does not count, in turn. Nothing
scrapes: reading the figures is paid when somebody reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks import clients
from benchmarks.load import connects, echo
from benchmarks.peers import OURS
from benchmarks.report import Ratio, Samples, Table, main, rounds
from benchmarks.servers import Serving, started

OFF, ON = "without metrics", "with metrics"
SERVERS = ("daphne", "uvicorn")
DAPHNE = "complete"
# The specification's limit on daphne, with room for the scatter of what is measured.
AIMS = {"daphne": "<= 1.01", "uvicorn": ""}

Server = tuple[int, int]


def works(quick: bool) -> dict[str, Callable[[Server], float]]:
    seconds, sockets = (0.2, 2) if quick else (0.8, 16)
    return {
        "connect": lambda server: connects(server, "/plain", seconds, sockets).cost,
        "connect, 2 dependencies": lambda server: (
            connects(server, "/deps/lobby?limit=20", seconds, sockets).cost
        ),
        "echo": lambda server: echo(server, "/text", b"x" * 32, seconds, sockets).cost,
    }


def switch(server: Server, peer: str) -> None:
    """Have the server count, or not."""
    with clients.connect(server[0], f"/counting/{peer == ON}") as client:
        client.sendall(clients.frame(b"\x03\xe8", opcode=8))
        while client.recv(4096):
            pass


def tables(quick: bool) -> Iterator[Table]:
    for name in SERVERS:
        served = {name: Serving(OURS, name, DAPHNE, metrics=True)}
        samples: dict[str, Samples] = {}
        for _ in range(rounds(3, quick)):
            with started(served) as servers:
                for turn in range(rounds(10, quick)):
                    for work, cost in works(quick).items():
                        # A process that is to count does so from its first connection on.
                        for peer in (OFF, ON) if turn % 2 else (ON, OFF):
                            switch(servers[name], peer)
                            samples.setdefault(work, {}).setdefault(peer, []).append(cost(servers[name]))
        table = Table(f"Metrics on {name}", "us of the server's CPU time each")
        for work, rows in samples.items():
            table.add(work, rows, Ratio(ON, OFF, AIMS[name]))
        yield table


if __name__ == "__main__":
    main(__doc__, tables)
