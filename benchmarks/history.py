"""What a history costs: sending to a group with and without one, compared with a bare XADD and PUBLISH.

    python -m benchmarks.history [--quick]

Needs redis-server.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import django
from channels.layers import channel_layers
from channels_redis.pubsub import RedisPubSubChannelLayer
from django.conf import settings

from benchmarks.presence import without_histograms
from tests.redis_server import running

QUICK = "--quick" in sys.argv
# Many short rounds: what else the machine does then disturbs all ways alike.
ROUNDS, MESSAGES = (1, 50) if QUICK else (60, 60)
MESSAGE = {"text": "x" * 32, "user": 17}


def configure(url: str) -> None:
    hosts = [{"address": url, "socket_timeout": None}]
    layer = {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": hosts}}
    two_steps = {"BACKEND": "benchmarks.history.TwoSteps", "CONFIG": {"hosts": hosts}}
    settings.configure(
        CHANNEL_LAYERS={"default": layer, "two_steps": two_steps},
        FASTWS={"GROUPS": {"kept.*": {"history": True}, "board.*": {"state": True}}},
    )
    django.setup()


class TwoSteps(RedisPubSubChannelLayer):  # type: ignore[misc]
    """A layer that must not be bypassed: neither by the store's script nor by groups without a kind."""

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        await self._get_layer().group_send(group, message)


async def measure(ways: dict[str, Callable[[], Awaitable[Any]]], number: int) -> dict[str, list[float]]:
    """Microseconds of this process per call; the variants take turns, in another order each time."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number_of_round in range(ROUNDS):
        in_order = [*ways.items()]
        for name, way in in_order if number_of_round % 2 else reversed(in_order):
            await way()
            begun = time.process_time()
            for _ in range(number):
                await way()
            found[name].append((time.process_time() - begun) / number * 1e6)
    return found


def report(title: str, found: dict[str, list[float]], base: str) -> None:
    print(f"\n{title}\n")
    print("| | CPU µs | ratio |\n| --- | ---: | ---: |")
    for name, times in found.items():
        ratio = statistics.median(a / b for a, b in zip(times, found[base], strict=True))
        print(f"| {name} | {statistics.median(times):.0f} | {ratio:.2f} |")


async def main(url: str) -> None:
    from redis.asyncio import Redis

    from fastws_compat.groups import Group
    from fastws_compat.groups.kinds import kind_with
    from fastws_compat.groups.storage import store_of
    from fastws_compat.layers.wire import pack

    class WithoutKinds(Group):
        """A group as it was before groups could keep anything."""

        async def _send_encoded(
            self, message: Any, payload: Any, exclude: Any = None, key: Any = None
        ) -> bool:
            await self._asend(pack(self.name, payload, self.type, self._extra(exclude)))
            return True

    plain, kept, board = Group("plain"), Group("kept.1"), Group("board.1")
    without = WithoutKinds("plain")
    by_layer, apart = Group("plain", layer="two_steps"), Group("kept.1", layer="two_steps")
    client = Redis.from_url(url)
    await without_histograms(client)

    async def bare() -> None:
        await client.xadd("bare", {"d": b"x" * 60}, maxlen=100)
        await client.publish("bare", b"x" * 60)

    base = "`asend` to a group without a kind, sent by channels_redis"
    sending = {
        base: lambda: by_layer.asend(MESSAGE),
        "`asend` to a group without a kind": lambda: plain.asend(MESSAGE),
        "the same without the code for kinds": lambda: without.asend(MESSAGE),
        "`asend` to a group with a history, spliced": lambda: kept.asend(MESSAGE),
        "`asend` to a group with a history, two steps": lambda: apart.asend(MESSAGE),
        "`aset`": lambda: board.aset("a", 17),
        "XADD and PUBLISH with redis-py": bare,
    }
    report("Sending", await measure(sending, MESSAGES), base)
    reading = {
        "`aposition`": kept.aposition,
        "100 entries (`ahistory`)": kept.ahistory,
    }
    report("Reading", await measure(reading, MESSAGES // 20), "`aposition`")
    many = {
        f"kept.{number}": kind_with(f"kept.{number}", "history") for number in range(100 if QUICK else 1000)
    }
    heads = await measure({"heads": lambda: store_of("default").heads(many)}, 1)
    print(f"\n{len(many)} groups are checked: {statistics.median(heads['heads']) / 1e3:.1f} ms of CPU")
    await client.flushall()
    await client.config_resetstat()
    before = (await client.info("memory"))["used_memory"]
    filling = 100
    for number in range(filling):
        for _ in range(100):
            await Group(f"kept.{number + 2}").asend(MESSAGE)
    used = (await client.info("memory"))["used_memory"] - before
    print(f"\nRedis: {used / filling / 100:.0f} bytes an entry, of a message of 58 bytes")
    stats = await client.info("commandstats")
    calls = stats["cmdstat_evalsha"]
    print(f"Redis: {calls['usec_per_call']:.0f} µs an entry that is kept and published")
    await client.aclose()
    for alias in ("default", "two_steps"):
        await channel_layers[alias].flush()


if __name__ == "__main__":
    with running() as server:
        configure(server.url)
        asyncio.run(main(server.url))
