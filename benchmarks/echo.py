"""Echo of text, bytes and JSON: in process, and on daphne completed, daphne stock and uvicorn.

    python -m benchmarks.echo [--quick]

In process: microseconds per message on one connection. On servers: messages per second of 50 sockets, each of
which sends its next message when the previous one has come back. The client is a compiled process
(`client.c`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from benchmarks import peers
from benchmarks.in_process import echoes
from benchmarks.load import echo
from benchmarks.peers import OURS
from benchmarks.report import Ratio, Samples, Table, in_turn, main, rounds
from benchmarks.servers import Serving, started

TEXT = "x" * 32
JSON = '{"action":"message","payload":{"room":"lobby","text":"Hello, world!","ids":[1,2,3]}}'
MESSAGES = {
    "text": {"type": "websocket.receive", "text": TEXT},
    "bytes": {"type": "websocket.receive", "bytes": TEXT.encode()},
    "json": {"type": "websocket.receive", "text": JSON},
}
COUNTS = {"channels": 300, "chanx": 100}
BARE_AIMS = {"text": "<= 2.5", "bytes": "<= 2.5"}


def tables(quick: bool) -> Iterator[Table]:
    yield in_process(quick)
    yield from on_servers(quick)


def in_process(quick: bool) -> Table:
    apps = {name: peers.MAKERS[name]() for name in peers.available(*peers.MANY, "chanx")}
    table = Table("Echo in process", "us per message")
    for kind, message in MESSAGES.items():
        runs = {
            name: partial(echoes, app, f"/{kind}", message, 10 if quick else COUNTS.get(name, 10_000))
            for name, app in apps.items()
            if name != "chanx" or kind == "json"
        }
        table.add(
            kind,
            in_turn(rounds(15, quick), runs),
            Ratio(OURS, "bare", BARE_AIMS.get(kind, "")),
            Ratio(OURS, "fastapi", "<= 0.5"),
            Ratio("channels", OURS, "" if kind == "json" else ">= 150"),
        )
    return table


# The peer, the server, and whether daphne is completed.
SERVED = {
    "bare, daphne stock": Serving("bare", "daphne", "stock"),
    "channels, daphne stock": Serving("channels", "daphne", "stock"),
    "chanx, daphne stock": Serving("chanx", "daphne", "stock"),
    "fastapi, daphne stock": Serving("fastapi", "daphne", "stock"),
    f"{OURS}, daphne stock": Serving(OURS, "daphne", "stock"),
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
RATIOS = (
    (f"{OURS}, daphne", "bare, daphne stock", ">= 2"),
    (f"{OURS}, daphne", "channels, daphne stock", ">= 5"),
    (f"{OURS}, daphne", "fastapi, daphne stock", ""),
    (f"{OURS}, daphne", "chanx, daphne stock", ""),
    (f"{OURS}, daphne", "bare, daphne", ""),
    (f"{OURS}, daphne", "fastapi, granian", ""),
    (f"{OURS}, daphne", "node", ">= 0.9"),
    (f"{OURS}, uvicorn", "bare, uvicorn", ">= 0.9"),
    (f"{OURS}, uvicorn", "fastapi, uvicorn", ">= 1"),
)
# The kinds of messages that only some peers support.
KINDS = {"chanx": ("json",), "node": ("text",)}
STARTS, TURNS = 3, 5


def on_servers(quick: bool) -> Iterator[Table]:
    """Messages per second, and the cost of each on the server."""
    rates: dict[str, Samples] = {kind: {} for kind in MESSAGES}
    costs: dict[str, Samples] = {kind: {} for kind in MESSAGES}
    served = {name: serving for name, serving in SERVED.items() if is_installed(serving.peer)}
    for _ in range(rounds(STARTS, quick)):
        with started(served) as servers:
            for _ in range(rounds(TURNS, quick)):
                for kind in MESSAGES:
                    measure(servers, kind, quick, rates[kind], costs[kind])
    table = Table("Echo on servers, 50 sockets", "messages per second")
    cost = Table("Echo on servers, the server's own processor time", "us per message")
    for kind in MESSAGES:
        table.add(kind, rates[kind], *(Ratio(*ratio) for ratio in RATIOS))
        cost.add(kind, costs[kind], *(Ratio(under, over, aim) for over, under, aim in RATIOS))
    yield table
    yield cost


def is_installed(peer: str) -> bool:
    return peer == "node" or bool(list(peers.available(peer)))


def measure(
    servers: Mapping[str, tuple[int, int]], kind: str, quick: bool, rates: Samples, costs: Samples
) -> None:
    """Measure one kind of message once on each server that supports it."""
    message = MESSAGES[kind]
    payload = message.get("text", "").encode() or message["bytes"]
    for name, server in servers.items():
        if kind not in KINDS.get(name.partition(",")[0], MESSAGES):
            continue
        seconds, sockets = (0.2, 10) if quick else (0.8, 50)
        found = echo(server, f"/{kind}", payload, seconds, sockets, 2 if kind == "bytes" else 1)
        rates.setdefault(name, []).append(found.rate)
        costs.setdefault(name, []).append(max(found.cost, 0.1))


if __name__ == "__main__":
    main(__doc__, tables)
