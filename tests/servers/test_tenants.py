"""Two tenants with a database each: users with the same key, and independent logins."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import websockets
from websockets.sync.client import ClientConnection, connect

from tests.redis_server import RedisServer
from tests.redis_server import redis_server as redis_server  # a fixture
from tests.servers.conftest import ROOT, Running, Server

pytestmark = pytest.mark.servers

SCRIPT = Path(__file__).with_name("tenants_site.py")
SETTINGS = "tests.servers.tenants_settings"


@dataclass
class Tenants:
    env: dict[str, str]
    sessions: dict[str, str] = field(default_factory=dict)

    def start(self, server: Server, rounds: float = 0, **env: str) -> Running:
        limits = json.dumps({"FASTWS": {"REVALIDATE_SECONDS": rounds}})
        env = {**self.env, "SETTINGS": limits, "DEBUG": "0", **env}
        return server.start("tests.servers.tenants_site:application", settings=SETTINGS, env=env)

    def run(self, *arguments: str, **env: str) -> str:
        """Perform an action in a separate process, without a tenant's context."""
        done = subprocess.run(
            [sys.executable, SCRIPT, *arguments],
            cwd=ROOT,
            env={**os.environ, **self.env, **env, "DJANGO_SETTINGS_MODULE": SETTINGS},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def open(self, running: Running, path: str, tenant: str) -> ClientConnection:
        host = f"{tenant}.localhost:{running.port}"
        return connect(
            f"ws://{host}{path}",
            sock=running.connect(),
            additional_headers={
                "Cookie": f"sessionid={self.sessions[tenant]}",
                "Origin": f"http://{host}",
            },
            compression=None,
            proxy=None,
        )

    def act(self, running: Running, tenant: str, what: str) -> None:
        request = Request(running.http(f"/act/{what}/"), headers={"Host": f"{tenant}.localhost"})
        with urlopen(request, timeout=10) as page:
            assert page.read().decode() == tenant


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Tenants:
    tenants = Tenants({"TENANTS_FOLDER": str(tmp_path_factory.mktemp("prepared"))})
    tenants.sessions = json.loads(tenants.run("prepare"))
    return tenants


@pytest.fixture
def tenants(prepared: Tenants, tmp_path: Path) -> Tenants:
    folder = shutil.copytree(prepared.env["TENANTS_FOLDER"], tmp_path / "tenants")
    return Tenants({"TENANTS_FOLDER": str(folder)}, prepared.sessions)


def end_of(client: ClientConnection) -> int | str:
    """The code that the server closes with."""
    try:
        return str(client.recv(timeout=10))
    except websockets.ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else "cut"


def answers(client: ClientConnection) -> bool:
    client.send("still there?")
    return client.recv(timeout=10) == "still there?"


@pytest.mark.parametrize("path", ["/members", "/grouped"])
@pytest.mark.parametrize("first", ["default", "blue"])
def test_rounds_judge_each_login_in_its_own_database(
    server: Server, tenants: Tenants, first: str, path: str
) -> None:
    running = tenants.start(server, rounds=0.1)
    second = {"default": "blue", "blue": "default"}[first]
    with tenants.open(running, path, first) as one, tenants.open(running, path, second) as two:
        assert [one.recv(timeout=10), two.recv(timeout=10)] == [f"{first} 1", f"{second} 1"]
        for _ in range(5):  # rounds
            time.sleep(0.1)
            assert [answers(one), answers(two)] == [True, True]
        tenants.act(running, second, "update")
        assert end_of(two) == 4401
        assert answers(one)
        tenants.act(running, first, "update")
        assert end_of(one) == 4401
    assert "could not be revalidated" not in running.logs()


def test_queries_of_a_route_use_its_own_database(server: Server, tenants: Tenants) -> None:
    running = tenants.start(server)
    with (
        tenants.open(running, "/grouped", "default") as one,
        tenants.open(running, "/grouped", "blue") as two,
    ):
        assert [one.recv(timeout=10), two.recv(timeout=10)] == ["default 1", "blue 1"]
        tenants.act(running, "blue", "ungroup")  # without a signal
        tenants.act(running, "default", "save")
        assert answers(one)
        tenants.act(running, "blue", "save")
        assert end_of(two) == 4403
        assert answers(one)


@pytest.mark.parametrize("what", ["deactivate", "disconnect", "disconnect-key"])
@pytest.mark.parametrize("tenant", ["default", "blue"])
def test_end_in_one_tenant_is_none_in_the_other(
    server: Server, tenants: Tenants, what: str, tenant: str
) -> None:
    running = tenants.start(server)
    with (
        tenants.open(running, "/members", "default") as one,
        tenants.open(running, "/members", "blue") as two,
    ):
        assert [one.recv(timeout=10), two.recv(timeout=10)] == ["default 1", "blue 1"]
        ended, other = (one, two) if tenant == "default" else (two, one)
        tenants.act(running, tenant, what)
        assert end_of(ended) == 4401
        assert answers(other)


def test_group_and_cap_of_a_user(server: Server, tenants: Tenants) -> None:
    running = tenants.start(server)
    with tenants.open(running, "/alone", "default") as one, tenants.open(running, "/alone", "blue") as two:
        assert [one.recv(timeout=10), two.recv(timeout=10)] == ["default 1", "blue 1"]
        for tenant in ("default", "blue"):
            with pytest.raises(websockets.InvalidStatus) as refused:
                tenants.open(running, "/alone", tenant)
            assert refused.value.response.status_code == 429
        tenants.act(running, "blue", "for-blue")
        assert two.recv(timeout=10) == "for-blue"
        assert answers(one)
        with tenants.open(running, "/kick", "blue") as kicked:
            assert [end_of(kicked), end_of(two)] == [4401, 4401]
        assert answers(one)


@pytest.mark.redis
@pytest.mark.parametrize("tenant", ["default", "blue"])
def test_messages_of_another_process(
    server: Server, tenants: Tenants, redis_server: RedisServer, tenant: str
) -> None:
    layer = {"REDIS_URL": redis_server.url}
    running = tenants.start(server, **layer)
    for what in ("disconnect", "deactivate"):
        with (
            tenants.open(running, "/members", "default") as one,
            tenants.open(running, "/members", "blue") as two,
        ):
            assert [one.recv(timeout=10), two.recv(timeout=10)] == ["default 1", "blue 1"]
            wait_for_subscriber(redis_server.url)
            ended, other = (one, two) if tenant == "default" else (two, one)
            tenants.run("send", tenant, **layer)
            assert ended.recv(timeout=10) == "from elsewhere"
            tenants.run(what, tenant, **layer)
            assert end_of(ended) == 4401
            assert answers(other)


def wait_for_subscriber(url: str) -> None:
    """Wait until the server receives the messages of other processes about logins."""
    import redis

    with redis.Redis.from_url(url) as client:
        deadline = time.monotonic() + 10
        while not any(b"fastws_compat.logins" in name for name in client.pubsub_channels()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
