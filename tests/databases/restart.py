"""A socket that uses the async ORM once per line of stdin, while the database in $DATABASES restarts.

Prints the result, or the name of the error that the call raised.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import django
from django.conf import settings

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
settings.configure(
    SECRET_KEY="x",
    ALLOWED_HOSTS=["testserver"],
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "fastws_compat"],
    DATABASES=json.loads(os.environ["DATABASES"]),
)
django.setup()

from django.contrib.auth.models import Permission, User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import Error, connection  # noqa: E402

from fastws_compat import FastAPI, WebSocket  # noqa: E402
from fastws_compat.connections import sweeper  # noqa: E402

sweeper.DATABASE_INTERVAL = 3600.0  # the timer must not hide a failure
call_command("migrate", verbosity=0)
connection.close()
app = FastAPI()


@app.websocket("/ws")
async def endpoint(websocket: WebSocket) -> None:
    await websocket.accept()
    async for how in websocket.iter_text():
        try:
            if how == "iterate":
                await websocket.send_json(
                    len([permission async for permission in Permission.objects.all()[:1]])
                )
            else:
                await websocket.send_json((await User.objects.aget_or_create(username="ann"))[0].pk)
        except Error as exc:
            await websocket.send_json(type(exc).__name__)


async def main() -> None:
    """Run without a test client, whose sync code would run in the main thread."""
    import asyncio

    inbox: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    await inbox.put({"type": "websocket.connect"})

    async def send(message: dict[str, str]) -> None:
        if message["type"] == "websocket.send":
            print(message["text"], flush=True)

    scope = {"type": "websocket", "path": "/ws", "headers": [], "query_string": b""}
    task = asyncio.create_task(app(scope, inbox.get, send))
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        await inbox.put({"type": "websocket.receive", "text": line.strip()})
    await inbox.put({"type": "websocket.disconnect", "code": "1000"})
    await task


if __name__ == "__main__":
    import asyncio

    asyncio.run(main())
