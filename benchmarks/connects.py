"""Connections per second on servers: TCP, handshake, accept, close.

    python -m benchmarks.connects [--quick]

The client is a compiled process (`client.c`) that opens sixteen sockets at a time; the path has the
dependencies and parameters of `benchmarks.handshake`, or none.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.load import connects
from benchmarks.peers import OURS
from benchmarks.report import Ratio, Samples, Table, main, rounds
from benchmarks.servers import Serving, started

SERVED = {
    "bare, daphne stock": Serving("bare", "daphne", "stock"),
    "channels, daphne stock": Serving("channels", "daphne", "stock"),
    "fastapi, daphne stock": Serving("fastapi", "daphne", "stock"),
    "bare, daphne": Serving("bare", "daphne", "complete"),
    "channels, daphne": Serving("channels", "daphne", "complete"),
    f"{OURS}, daphne": Serving(OURS, "daphne", "complete"),
    "bare, uvicorn": Serving("bare", "uvicorn"),
    "fastapi, uvicorn": Serving("fastapi", "uvicorn"),
    "channels, uvicorn": Serving("channels", "uvicorn"),
    f"{OURS}, uvicorn": Serving(OURS, "uvicorn"),
    "fastapi, granian": Serving("fastapi", "granian"),
    "node": Serving("node", "node"),
}
PATHS = {"plain": "/plain", "2 dependencies, 4 parameters": "/deps/lobby?limit=20"}


def tables(quick: bool) -> Iterator[Table]:
    table = Table("Connects on servers", "connections per second")
    samples: dict[str, Samples] = {case: {} for case in PATHS}
    for _ in range(rounds(3, quick)):
        with started(SERVED) as servers:
            for _ in range(rounds(3, quick)):
                for case, path in PATHS.items():
                    for name, server in servers.items():
                        rate = connects(server, path, 0.2 if quick else 0.8, 2 if quick else 16).rate
                        samples[case].setdefault(name, []).append(rate)
    for case, rows in samples.items():
        table.add(
            case,
            rows,
            Ratio(f"{OURS}, daphne", "channels, daphne stock"),
            Ratio(f"{OURS}, daphne", "fastapi, daphne stock"),
            Ratio(f"{OURS}, daphne", "bare, daphne"),
            Ratio(f"{OURS}, daphne", "fastapi, uvicorn", ">= 1"),
            # Node accepts in both cases without a look at the request.
            Ratio(f"{OURS}, daphne", "node", ">= 0.7" if case == "plain" else ""),
            Ratio(f"{OURS}, daphne", "fastapi, granian"),
            Ratio(f"{OURS}, uvicorn", "fastapi, uvicorn"),
            Ratio(f"{OURS}, uvicorn", "bare, uvicorn"),
        )
    yield table


if __name__ == "__main__":
    main(__doc__, tables)
