"""Two tenants with a database each: users with the same key, and independent logins."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import websockets
from websockets.sync.client import ClientConnection, connect

from tests.redis_server import RedisServer, wait_for_subscriber
from tests.redis_server import redis_server as redis_server  # a fixture
from tests.servers.client import OPEN_TIMEOUT
from tests.servers.conftest import ROOT, Running, Server, in_turn, on_servers

pytestmark = [pytest.mark.servers, pytest.mark.unmeasured]

SCRIPT = Path(__file__).with_name("tenants_site.py")
SETTINGS = "tests.servers.tenants_settings"


Process = subprocess.Popen[str]


@dataclass
class Tenants:
    env: dict[str, str]
    sessions: dict[str, str] = field(default_factory=dict)

    def start(self, server: Server, rounds: float = 0, **env: str) -> Running:
        limits = json.dumps({"FASTWS": {"REVALIDATE_SECONDS": rounds}})
        env = {**self.env, "SETTINGS": limits, "DEBUG": "0", **env}
        return server.start("tests.servers.tenants_site:application", settings=SETTINGS, env=env)

    @contextmanager
    def process(self, *arguments: str, **env: str) -> Iterator[Process]:
        """Another process of the site."""
        with subprocess.Popen(
            [sys.executable, SCRIPT, *arguments],
            cwd=ROOT,
            env={**os.environ, **self.env, **env, "DJANGO_SETTINGS_MODULE": SETTINGS},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            yield process

    def open(self, running: Running, path: str, tenant: str) -> ClientConnection:
        host = f"{tenant}.localhost:{running.port}"
        return connect(
            f"ws://{host}{path}",
            sock=running.connect(),
            open_timeout=OPEN_TIMEOUT,
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
    with tenants.process("prepare") as process:
        tenants.sessions = json.loads(process.communicate(timeout=60)[0])
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


@pytest.mark.parametrize("path", ["/members", pytest.param("/grouped", marks=pytest.mark.slow)])
@in_turn("first", {"default": "default", "blue": "blue"})
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


@on_servers("daphne")
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


@in_turn("tenant", {"default": "default", "blue": "blue"})
def test_end_in_one_tenant_is_none_in_the_other(server: Server, tenants: Tenants, tenant: str) -> None:
    running = tenants.start(server)
    for what in ("disconnect", "disconnect-key", "deactivate"):  # the last one also ends the login itself
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
@in_turn("tenant", {"default": "default", "blue": "blue"})
def test_messages_of_another_process(
    server: Server, tenants: Tenants, redis_server: RedisServer, tenant: str
) -> None:
    layer = {"REDIS_URL": redis_server.url}
    running = tenants.start(server, **layer)
    with tenants.process(**layer) as elsewhere:
        for what in ("disconnect", "deactivate"):
            with (
                tenants.open(running, "/members", "default") as one,
                tenants.open(running, "/members", "blue") as two,
            ):
                assert [one.recv(timeout=10), two.recv(timeout=10)] == ["default 1", "blue 1"]
                wait_for_subscriber(redis_server.url)
                ended, other = (one, two) if tenant == "default" else (two, one)
                perform(elsewhere, f"send {tenant}")
                assert ended.recv(timeout=10) == "from elsewhere"
                perform(elsewhere, f"{what} {tenant}")
                assert end_of(ended) == 4401
                assert answers(other)


def perform(process: Process, action: str) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{action}\n")
    process.stdin.flush()
    assert process.stdout.readline() == "done\n"
