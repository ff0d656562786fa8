"""Import times compared with pydantic, FastAPI and Channels, and the cost of the installed app in Django.

    python -m benchmarks.imports [--quick]

Milliseconds of CPU time of a process that does one thing, minus those of one that does nothing. Both
`import pydantic` and `import fastws_compat` load little until a name is used, so the first model and the
first route are measured too, also compared with pydantic and asyncio, which every process that serves
sockets needs anyway. The last table is about a process of a Django project that serves no socket, such as a
command or a WSGI worker.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial

from benchmarks.peers import OURS, available
from benchmarks.report import Ratio, Samples, Table, in_turn, main, rounds
from benchmarks.servers import ROOT, environment

MODEL = "from pydantic import BaseModel\nclass Model(BaseModel):\n    room: int\n"
ROUTE = """from {0} import FastAPI, WebSocket
app = FastAPI()
@app.websocket("/ws/{{room}}")
async def endpoint(websocket: WebSocket, room: int): ...
"""
SETUP = """from django.conf import settings
settings.configure(SECRET_KEY="benchmark", INSTALLED_APPS={0!r})
import django
django.setup()
"""
APPS = ["daphne", "channels", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"]

IMPORTS = {
    "pydantic": "import pydantic",
    OURS: f"import {OURS}",
    "fastapi": "import fastapi",
    "channels": "import channels.generic.websocket, channels.routing, channels.auth",
}
FIRST_USE = {
    "pydantic": MODEL,
    "pydantic, asyncio": f"import asyncio\n{MODEL}",
    OURS: ROUTE.format(OURS),
    "fastapi": ROUTE.format("fastapi"),
}
DJANGO = {"without": SETUP.format(APPS), f"with {OURS}": SETUP.format([*APPS, OURS])}


def tables(quick: bool) -> Iterator[Table]:
    yield table(
        "Import",
        "import",
        IMPORTS,
        quick,
        Ratio(OURS, "pydantic", "<= 1.3"),
        Ratio(OURS, "fastapi"),
    )
    yield table(
        "Import and first use: a model, a route",
        "first use",
        FIRST_USE,
        quick,
        Ratio(OURS, "pydantic"),
        Ratio(OURS, "pydantic, asyncio"),
        Ratio(OURS, "fastapi"),
    )
    yield table(
        "A Django process that serves no socket", "setup", DJANGO, quick, Ratio(f"with {OURS}", "without")
    )


def table(title: str, case: str, statements: Mapping[str, str], quick: bool, *ratios: Ratio) -> Table:
    here = {name: code for name, code in statements.items() if name not in MISSING}
    here["nothing"] = "pass"
    with tempfile.TemporaryDirectory() as cache:
        for statement in here.values():  # compiles every module once
            processor_time(statement, cache)
        runs = {name: partial(processor_time, statement, cache) for name, statement in here.items()}
        samples = in_turn(rounds(15, quick), runs)
    nothing = min(samples.pop("nothing"))
    net: Samples = {name: [max(0.1, value - nothing) for value in values] for name, values in samples.items()}
    found = Table(title, "ms of processor time")
    found.add(case, net, *ratios)
    return found


MISSING = {"fastapi", "channels"} - set(available("fastapi", "channels"))


def processor_time(statement: str, cache: str) -> float:
    """Milliseconds of CPU time of a new interpreter that runs `statement`."""
    environ = {k: v for k, v in environment().items() if k != "PYTHONDONTWRITEBYTECODE"}
    environ["PYTHONPYCACHEPREFIX"] = cache
    process = subprocess.Popen([sys.executable, "-c", statement], cwd=ROOT, env=environ)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, statement
    return (usage.ru_utime + usage.ru_stime) * 1000


if __name__ == "__main__":
    main(__doc__, tables)
