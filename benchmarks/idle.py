"""The cost of an open, silent socket: memory and tasks.

    python -m benchmarks.idle [--quick]

In process: what Python has allocated (`tracemalloc`) and `asyncio.all_tasks()` per connection, each peer in
a process of its own. The task in which a server runs the application counts too. On servers: how the
resident memory of the process grows while this one holds the sockets open (Linux).
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.clients import connect
from benchmarks.in_process import CONNECT, scope, swallow
from benchmarks.peers import OURS
from benchmarks.report import Ratio, Table, in_turn, main, rounds
from benchmarks.servers import ROOT, Serving, allow_many_files, environment


def tables(quick: bool) -> Iterator[Table]:
    names = list(peers.available(*peers.MANY, "chanx"))
    count = 50 if quick else 1000
    found = {name: [in_child(name, count) for _ in range(rounds(3, quick))] for name in names}
    table = Table("An idle socket in process", "bytes and tasks per socket")
    memory = {name: [values["memory"] for values in found[name]] for name in names}
    floor = memory["bare"]
    table.add(
        "memory",
        memory,
        Ratio(OURS, "fastapi", "<= 0.8"),
        Ratio(OURS, "channels", "<= 0.8"),
    )
    table.add(
        "memory over bare (aim: 4,096)",
        {
            name: [max(1, value - bare) for value, bare in zip(memory[name], floor, strict=True)]
            for name in names
            if name != "bare"
        },
    )
    table.add("tasks", {name: [values["tasks"] for values in found[name]] for name in names})
    yield table
    yield on_servers(quick)


SERVED = {
    "channels, daphne stock": Serving("channels", "daphne", "stock"),
    "fastapi, daphne stock": Serving("fastapi", "daphne", "stock"),
    "bare, daphne": Serving("bare", "daphne", "complete"),
    f"{OURS}, daphne": Serving(OURS, "daphne", "complete"),
    "channels, daphne": Serving("channels", "daphne", "complete"),
    "bare, uvicorn": Serving("bare", "uvicorn"),
    f"{OURS}, uvicorn": Serving(OURS, "uvicorn"),
    "fastapi, uvicorn": Serving("fastapi", "uvicorn"),
    "channels, uvicorn": Serving("channels", "uvicorn"),
}


def on_servers(quick: bool) -> Table:
    count = 40 if quick else 2000
    allow_many_files()
    table = Table(f"{count:,} idle sockets on servers", "KiB of resident memory per socket")
    runs = {name: partial(resident, serving, count) for name, serving in SERVED.items()}
    table.add(
        "memory",
        in_turn(rounds(3, quick), runs),
        Ratio(f"{OURS}, daphne", "channels, daphne stock", "<= 0.8"),
        Ratio(f"{OURS}, daphne", "fastapi, daphne stock", "<= 0.8"),
        Ratio(f"{OURS}, daphne", "channels, daphne"),
        Ratio(f"{OURS}, daphne", "bare, daphne"),
        Ratio(f"{OURS}, uvicorn", "fastapi, uvicorn"),
        Ratio(f"{OURS}, uvicorn", "channels, uvicorn"),
        Ratio(f"{OURS}, uvicorn", "bare, uvicorn"),
    )
    return table


def resident(serving: Serving, count: int) -> float:
    """The growth of a server process in KiB per socket, after a few sockets to warm it up."""
    with serving.process() as (port, pid):
        with held(port, 20):
            pass
        before = resident_of(pid)
        with held(port, count):
            return max(0.01, (resident_of(pid) - before) / count / 1024)


@contextmanager
def held(port: int, count: int) -> Iterator[None]:
    """Open this many sockets that send nothing."""
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(connect(port, "/idle"))
        yield


def resident_of(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def in_child(name: str, count: int) -> dict[str, float]:
    output = subprocess.run(
        [sys.executable, "-m", "benchmarks.idle", "--child", name, str(count)],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    result: dict[str, float] = json.loads(output)
    return result


async def measure(app: Any, count: int) -> dict[str, float]:
    """Memory and tasks per connection, for `count` connections that wait for their first message."""
    tasks = [asyncio.create_task(connection(app)) for _ in range(50)]
    await asyncio.sleep(0.1)
    gc.collect()
    tracemalloc.start()
    before, others = tracemalloc.get_traced_memory()[0], len(asyncio.all_tasks())
    tasks += [asyncio.create_task(connection(app)) for _ in range(count)]
    # Wait until every application is idle; Channels' applications use threads before that.
    seen = -1.0
    while seen != (seen := tracemalloc.get_traced_memory()[0]):
        await asyncio.sleep(0.3)
        gc.collect()
    after, more = tracemalloc.get_traced_memory()[0], len(asyncio.all_tasks())
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return {"memory": (after - before) / count, "tasks": (more - others) / count}


async def connection(app: Any) -> None:
    silence = asyncio.get_running_loop().create_future()
    messages = iter((CONNECT,))

    async def receive() -> Any:
        for message in messages:
            return message
        return await silence

    await app(scope("/idle"), receive, swallow)


if __name__ == "__main__":
    if "--child" in sys.argv:
        print(json.dumps(asyncio.run(measure(peers.MAKERS[sys.argv[2]](), int(sys.argv[3])))))
    else:
        main(__doc__, tables)
