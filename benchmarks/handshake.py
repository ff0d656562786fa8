"""Handshakes in process: a plain one, and ones with two dependencies or a generator and four parameters.

    python -m benchmarks.handshake [--quick]

Microseconds per connection that is accepted and closed; no server, one event loop, the peers in turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks import peers
from benchmarks.in_process import handshakes
from benchmarks.peers import OURS
from benchmarks.report import Ratio, Table, in_turn, main, rounds

CASES = {
    "plain": ("/plain", b"", (*peers.MANY, "chanx"), "<= 0.67"),
    "2 dependencies, path, query, header, cookie": ("/deps/lobby", b"limit=20", peers.MANY, "<= 0.2"),
    "1 generator, path, query, header, cookie": (
        "/generator/lobby",
        b"limit=20",
        ("bare", OURS, "fastapi"),
        "<= 0.2",
    ),
}
COUNTS = {"channels": 50, "chanx": 20}


def tables(quick: bool) -> Iterator[Table]:
    apps = {name: peers.MAKERS[name]() for name in peers.available(*peers.MANY, "chanx")}
    table = Table("Handshake in process", "us per connection")
    for case, (path, query, names, aim) in CASES.items():
        runs = {
            name: partial(handshakes, apps[name], path, query, 2 if quick else COUNTS.get(name, 500))
            for name in names
            if name in apps
        }
        table.add(
            case,
            in_turn(rounds(15, quick), runs),
            Ratio(OURS, "fastapi", aim),
            Ratio("channels", OURS),
            Ratio(OURS, "bare"),
        )
    yield table


if __name__ == "__main__":
    main(__doc__, tables)
