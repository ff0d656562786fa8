"""Users are looked up independently of the async ORM, and nothing of the look-up stays with the socket."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.redis_server import RedisServer
from tests.redis_server import redis_server as redis_server  # a fixture
from tests.servers.client import Raw
from tests.servers.conftest import Running, Server, in_turn
from tests.servers.test_django_users import Site
from tests.servers.test_django_users import prepared as prepared  # fixtures
from tests.servers.test_django_users import site as site

pytestmark = [pytest.mark.servers, pytest.mark.unmeasured]

APP = "tests.servers.lookups:application"
SOCKETS = 200


def test_busy_thread_of_the_async_orm_refuses_no_handshake(server: Server, site: Site) -> None:
    running = site.start(server, APP)
    names = list(site.sessions) * 4
    with site.open(running, "/block") as blocker:
        assert blocker.recv(timeout=10) == "blocking"

        def enter(name: str) -> tuple[str, str | bytes]:
            with site.open(running, "/members", name) as client:
                return name, client.recv(timeout=10)

        with ThreadPoolExecutor(5) as threads:
            answers = list(threads.map(enter, names))
        assert len(answers) == 20
        assert all(name == answer for name, answer in answers)
        blocker.send("enough")
        assert blocker.recv(timeout=20) == "done"
    assert "Traceback" not in running.logs()


@pytest.mark.redis
@in_turn("engine", {"cached_db": "cached_db", "cache": "cache"})
def test_no_connection_to_the_cache_per_open_socket(
    server: Server, site: Site, redis_server: RedisServer, engine: str
) -> None:
    redis = pytest.importorskip("redis")
    cache = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": redis_server.url}
    settings = {
        "SESSION_ENGINE": f"django.contrib.sessions.backends.{engine}",
        "CACHES": {"default": cache, "sessions": cache},
        "SESSION_CACHE_ALIAS": "sessions",
    }
    env = {"SETTINGS": json.dumps(settings)}
    site.sessions = json.loads(site.run("sessions", *site.sessions, **env))
    running = site.start(server, APP, **env)
    client = redis.Redis(port=redis_server.port)
    before = len(client.client_list())
    with ExitStack() as stack:
        for number in range(SOCKETS):
            socket = stack.enter_context(site.raw(running, ("/members", "/known")[number % 2], "ann"))
            assert socket.data_frame()[0] == 1
        # Each thread has its own connection: 8 for look-ups, the loop's and the async ORM's.
        assert len(client.client_list()) - before <= 20
    assert "Traceback" not in running.logs()


def test_refusal_by_the_server_is_a_disconnect_for_the_endpoint(daphne: Server, site: Site) -> None:
    """daphne drops a handshake that is not answered in time; the late endpoint logs no error."""
    settings = json.dumps({"FASTWS": {"HANDSHAKE_TIMEOUT": 60}})
    running = daphne.start(
        APP,
        "--websocket_connect_timeout",
        "1",
        settings="tests.servers.django_settings",
        env={**site.env, "SETTINGS": settings},
    )
    assert site.status(running, "/late?seconds=3") == 503
    assert outcomes(running, site) == ["WebSocketDisconnect 1006"]
    assert "Traceback" not in running.logs()
    assert "ERROR" not in running.logs()


def test_client_that_leaves_during_the_handshake_is_a_disconnect(server: Server, site: Site) -> None:
    running = site.start(server, APP)
    with Raw(running, "/late?seconds=2", {"Host": f"127.0.0.1:{running.port}"}) as client:
        assert site.status(running, "/begun") == 101
        client.reset()
    assert outcomes(running, site)[0].startswith("WebSocketDisconnect ")
    assert "Traceback" not in running.logs()


def outcomes(running: Running, site: Site) -> list[str]:
    """The result of `/late`, once it has returned."""
    with site.open(running, "/outcomes") as client:
        found: list[str] = json.loads(client.recv(timeout=30))
        return found
