"""Many processes on the control line, as far as an asker can tell: each has a name and a layer of its own.

python -m tests.servers.crowd REDIS CAPACITY NAME...

Each answers a list with two rows. Prints "ready" when all have joined; ends with stdin.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import Any

from django.conf import settings

settings.configure(
    SECRET_KEY="x", INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "fastws_compat"]
)

import django  # noqa: E402

django.setup()

from channels_redis.core import RedisChannelLayer  # noqa: E402

from fastws_compat.operations import line as line_module  # noqa: E402
from fastws_compat.operations.answers import parts, respond  # noqa: E402
from fastws_compat.operations.line import GROUP, Line  # noqa: E402

ROWS = 2


class Process(Line):
    """The control line of one process."""

    def __init__(self, name: str, layer: Any) -> None:
        super().__init__()
        self._name, self._own = name, layer

    def begin(self) -> None:
        line_module.shared_layer = lambda: self._own
        super().begin()

    async def _answer(self, question: Mapping[str, Any]) -> None:
        answer = {**await respond(question), "process": self._name}
        if question["op"] == "list":
            rows = [{"id": f"{self._name}-{number}", "route": "/ws"} for number in range(ROWS)]
            answer |= {"total": ROWS, "matched": ROWS, "rows": rows}
        for part in parts(answer):
            await self._send(question["reply"], part)


async def main(url: str, capacity: str, *names: str) -> None:
    hosts = [{"address": url, "socket_timeout": None}]
    crowd = [Process(name, RedisChannelLayer(hosts=hosts, capacity=int(capacity))) for name in names]
    for process in crowd:
        process.begin()
    layer = crowd[0].layer
    key = layer._group_key(GROUP)
    while await layer.connection(layer.consistent_hash(GROUP)).zcard(key) < len(crowd):
        await asyncio.sleep(0.05)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)


asyncio.run(main(*sys.argv[1:]))
