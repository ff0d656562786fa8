"""Processes that only send to groups with a history: a shell, threads, forks, and loops that come and go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from fastws_compat.groups import Group
from fastws_compat.layers import client as layers
from tests.redis_server import RedisServer
from tests.redis_server import redis as redis

pytestmark = pytest.mark.redis

GROUPS = {"room.*": {"history": True}}
LAYERS = {"pubsub": "RedisPubSubChannelLayer", "core": "RedisChannelLayer"}
SCRIPT = """
import asyncio, os, threading
from fastws_compat.groups import Group
rooms = [Group("room.1", layer=layer) for layer in ("pubsub", "core")]
def send(text):
    for room in rooms:
        room.send(text)
async def asend(text):
    for room in rooms:
        await room.asend(text)
send("shell")
threads = [threading.Thread(target=send, args=("thread",)) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
[asyncio.run(asend("loop")) for _ in range(2)]
if not (child := os.fork()):
    send("child")
    os._exit(0)
print(os.waitpid(child, 0)[1])
send("parent")
from redis import Redis
with Redis.from_url(URL) as admin:
    print(len(admin.client_list()) - 1)
"""


def test_every_way_of_sending_is_kept_and_leaves_no_connection_open(
    redis: RedisServer, settings: Any
) -> None:
    settings.CHANNEL_LAYERS = {
        name: {
            "BACKEND": f"channels_redis.{name}.{layer}",
            "CONFIG": {"hosts": redis.hosts, "prefix": name},
        }
        for name, layer in LAYERS.items()
    }
    settings.FASTWS = {"GROUPS": GROUPS}
    layers.health.cache_clear()
    changes = json.dumps({"CHANNEL_LAYERS": settings.CHANNEL_LAYERS, "FASTWS": settings.FASTWS})
    shell = subprocess.run(
        [sys.executable, "manage.py", "shell", "-c", SCRIPT.replace("URL", repr(redis.url))],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.servers.django_settings", "SETTINGS": changes},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (shell.returncode, shell.stdout.split()[-2:]) == (0, ["0", "0"]), shell.stderr
    assert "Traceback" not in shell.stderr
    for name in LAYERS:
        entries = Group("room.1", layer=name).history()
        assert [entry.offset for entry in entries] == list(range(1, 10))
        sent = [entry.message for entry in entries]
        assert sent == ["shell", *["thread"] * 4, "loop", "loop", "child", "parent"]
