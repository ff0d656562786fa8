"""What a Redis server is asked for."""

from __future__ import annotations

import threading
from collections import Counter

from redis import Redis

from fastws_compat.groups.servers import SCRIPTS, script
from tests.redis_server import RedisServer


class Monitor:
    """How often each script runs on a Redis server."""

    def __init__(self, redis: RedisServer) -> None:
        self.calls: Counter[str] = Counter()
        self._url = redis.url
        self._names = {script(path.stem).sha: path.stem for path in SCRIPTS.glob("*.lua")}
        self._is_on = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def _listen(self) -> None:
        with Redis.from_url(self._url) as client, client.monitor() as monitor:
            self._is_on.set()
            for each in monitor.listen():
                command = each["command"].split()
                if command[:2] == ["ECHO", "end"]:
                    return
                if command[0] == "EVALSHA":
                    self.calls[self._names.get(command[1], "")] += 1

    def __enter__(self) -> Counter[str]:
        self._thread.start()
        assert self._is_on.wait(10)
        return self.calls

    def __exit__(self, *exc_info: object) -> None:
        with Redis.from_url(self._url) as client:
            client.echo("end")
        self._thread.join(10)
