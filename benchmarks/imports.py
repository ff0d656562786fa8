"""How long imports take, beside pydantic's.

    python -m benchmarks.imports [--quick]

Milliseconds of processor time of a process that imports one thing, less those of one that imports nothing.
`pydantic in use` is what every user of pydantic pays at the latest with the first model, field and validator;
`import pydantic` alone loads almost nothing. asyncio is told apart because every process that serves sockets
has it, and Django imports it too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial

from benchmarks.peers import OURS, available
from benchmarks.report import Ratio, Samples, Table, in_turn, main, rounds
from benchmarks.servers import ROOT, environment

PYDANTIC = "from pydantic import BaseModel, Field, TypeAdapter, fields"
STATEMENTS = {
    "nothing": "pass",
    "import pydantic": "import pydantic",
    "pydantic in use": PYDANTIC,
    "pydantic in use, asyncio": f"{PYDANTIC}; import asyncio",
    OURS: f"import {OURS}",
    "fastapi": "import fastapi",
    "channels": "import channels.generic.websocket, channels.routing, channels.auth",
}


def tables(quick: bool) -> Iterator[Table]:
    statements = {
        name: statement
        for name, statement in STATEMENTS.items()
        if name not in ("fastapi", "channels") or list(available(name))
    }
    with tempfile.TemporaryDirectory() as cache:
        for statement in statements.values():  # compiles every module once
            processor_time(statement, cache)
        runs = {name: partial(processor_time, statement, cache) for name, statement in statements.items()}
        samples = in_turn(rounds(15, quick), runs)
    nothing = min(samples.pop("nothing"))
    net: Samples = {name: [max(0.1, value - nothing) for value in values] for name, values in samples.items()}
    table = Table("Import", "ms of processor time")
    table.add(
        "import",
        net,
        Ratio(OURS, "pydantic in use", "<= 1.3"),
        Ratio(OURS, "pydantic in use, asyncio"),
        Ratio(OURS, "import pydantic"),
        Ratio(OURS, "fastapi"),
    )
    yield table


def processor_time(statement: str, cache: str) -> float:
    """Milliseconds of processor time of a new interpreter that runs `statement`."""
    environ = {k: v for k, v in environment().items() if k != "PYTHONDONTWRITEBYTECODE"}
    environ["PYTHONPYCACHEPREFIX"] = cache
    process = subprocess.Popen([sys.executable, "-c", statement], cwd=ROOT, env=environ)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, statement
    return (usage.ru_utime + usage.ru_stime) * 1000


if __name__ == "__main__":
    main(__doc__, tables)
