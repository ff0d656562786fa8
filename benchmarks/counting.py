"""What metrics cost a server: its CPU time for a connection and for a message, without and with them.

    python -m benchmarks.counting [--quick]

The two processes are the same but for the installed collector. Each round measures both, one right after the
other, and the order alternates. Nothing scrapes: reading the figures is paid when somebody reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

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


def tables(quick: bool) -> Iterator[Table]:
    for name in SERVERS:
        served = {peer: Serving(OURS, name, DAPHNE, metrics=peer == ON) for peer in (OFF, ON)}
        samples: dict[str, Samples] = {}
        for _ in range(rounds(3, quick)):
            with started(served) as servers:
                for turn in range(rounds(10, quick)):
                    for work, cost in works(quick).items():
                        for peer in sorted(servers, reverse=turn % 2 == 1):
                            samples.setdefault(work, {}).setdefault(peer, []).append(cost(servers[peer]))
        table = Table(f"Metrics on {name}", "us of the server's CPU time each")
        for work, rows in samples.items():
            table.add(work, rows, Ratio(ON, OFF, AIMS[name]))
        yield table


if __name__ == "__main__":
    main(__doc__, tables)
