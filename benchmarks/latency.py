"""How soon a broadcast reaches the members of a group while the server runs at half of its capacity.

    python -m benchmarks.latency [--quick]

The client is a compiled process (`client.c`). It first finds out how many broadcasts per second a server
manages, and then sends half as many, at even intervals. The delay of a delivery counts from the moment at
which its broadcast was due, so a server that falls behind is not spared.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import load
from benchmarks.broadcast import MEMORY, REDIS, redis
from benchmarks.echo import is_installed
from benchmarks.peers import OURS
from benchmarks.report import Ratio, Samples, Table, main, rounds
from benchmarks.servers import Serving, allow_many_files, started

MEMBERS = 500
SECONDS = 4.0
APP = "benchmarks.group_peers:app"

# Whether messages go through Redis; the other peers work within one process only.
SERVED = {
    f"{OURS}, daphne, {REDIS}": ("daphne", "complete", True),
    f"{OURS}, daphne, {MEMORY}": ("daphne", "complete", False),
    f"{OURS}, uvicorn, {REDIS}": ("uvicorn", "stock", True),
    f"channels, daphne stock, {REDIS}": ("daphne", "stock", True),
    "fastapi, daphne stock": ("daphne", "stock", False),
    "fastapi, uvicorn": ("uvicorn", "stock", False),
    "fastapi, granian": ("granian", "stock", False),
    "node": ("node", "stock", False),
}
FIRST = f"{OURS}, daphne, {REDIS}"
PEERS = (f"channels, daphne stock, {REDIS}", "fastapi, uvicorn", "fastapi, granian", "node")
# The target for a server's capacity.
AIMS = {"node": ">= 1.2"}


def tables(quick: bool) -> Iterator[Table]:
    carried: Samples = {}
    half: dict[str, Samples] = {"median": {}, "99th percentile": {}}
    allow_many_files()
    with redis() as url:
        for _ in range(rounds(3, quick)):
            with started(servings(url)) as servers:
                for name, server in servers.items():
                    rate, *delays = measured(server, quick)
                    carried.setdefault(name, []).append(rate)
                    for samples, delay in zip(half.values(), delays, strict=True):
                        samples.setdefault(name, []).append(delay)
    table = Table("Broadcasts to 500 members", "per second")
    table.add(
        "all that the server can carry", carried, *(Ratio(FIRST, peer, AIMS.get(peer, "")) for peer in PEERS)
    )
    yield table
    table = Table("A broadcast to 500 members at half of that load", "ms until a member has it")
    for case, samples in half.items():
        table.add(case, samples, *(Ratio(peer, FIRST) for peer in PEERS))
    yield table


def servings(url: str) -> dict[str, Serving]:
    return {
        name: Serving(peer, server, daphne, APP, url if through_redis else "")
        for name, (server, daphne, through_redis) in SERVED.items()
        if is_installed(peer := name.partition(",")[0])
    }


def measured(server: tuple[int, int], quick: bool) -> tuple[float, float, float]:
    """Broadcasts per second, and the median and the 99th percentile of the delays at half of that."""
    seconds, members = (0.2, 10) if quick else (SECONDS, MEMBERS)
    common = (server, "/g", b"send 1", seconds, members)
    rate = load.broadcast(*common)
    return rate, *load.delays(*common, rate / 2)


if __name__ == "__main__":
    main(__doc__, tables)
