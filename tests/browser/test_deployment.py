"""The chat deployed as in docs/deployment.md: nginx with TLS in front of two daphne processes, and Redis."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import expect  # noqa: E402

from tests.redis_server import running as running_redis  # noqa: E402
from tests.servers.conftest import ROOT, Running, launch, wait_for  # noqa: E402
from tests.servers.test_nginx import nginx  # noqa: E402
from wsproject.settings import FASTWS  # noqa: E402

from .conftest import FLAGS  # noqa: E402
from .test_demo import online, said, say, write  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.servers, pytest.mark.redis, pytest.mark.unmeasured]

# The settings of Django in docs/deployment.md.
SETTINGS = {
    "ALLOWED_HOSTS": ["example.com"],
    "SECURE_PROXY_SSL_HEADER": ["HTTP_X_FORWARDED_PROTO", "https"],
    "SESSION_COOKIE_SECURE": True,
    "CSRF_COOKIE_SECURE": True,
    "FASTWS": {**FASTWS, "MAX_CONNECTIONS": 5000, "MAX_CONNECTIONS_PER_ADDRESS": 100},
}
# nginx's `hash` of the first is even and selects the first server; that of the second is odd.
NAMES = ("right", "left")
PREPARE = """
from django.core.management import call_command
from wsproject.accounts import make_accounts, make_rooms
call_command("migrate", verbosity=0)
make_rooms()
for account in make_accounts():
    print(account.username, account.password)
"""
# Every state that the page goes through, however short.
WATCH_STATE = """() => {
    const state = document.getElementById("state");
    window.states = [];
    new MutationObserver(() => states.push(state.dataset.state)).observe(state, { attributes: true });
}"""


@dataclass
class Deployment:
    """The demo behind nginx; the cookie `process` of a browser selects one of the two processes."""

    env: dict[str, str]
    passwords: dict[str, str] = field(default_factory=dict)
    processes: dict[str, Running] = field(default_factory=dict)
    port: int = 0
    url = "https://example.com"

    def prepare(self) -> None:
        """Create the database with its rooms and users."""
        command = [sys.executable, "manage.py", "shell", "--no-imports", "-c", PREPARE]
        made = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **self.env}, check=True, capture_output=True, text=True
        )
        self.passwords = dict(re.findall(r"^(\w+) (\w+)$", made.stdout, re.MULTILINE))

    def start(self) -> None:
        for name in NAMES:
            settings = "tests.servers.django_settings"
            self.processes[name] = launch(
                "daphne", "wsproject.asgi:application", ["--proxy-headers"], settings, self.env, ready=True
            )

    def stop(self) -> None:
        for running in self.processes.values():
            running.stop()

    def sockets(self, room: str) -> dict[str, int]:
        """The number of sockets that each process has accepted in a room."""
        accepted = f'"WSCONNECT /ws/chat/{room}"'
        return {name: running.logs().count(accepted) for name, running in self.processes.items()}

    def wait_for_sockets(self, room: str, **numbers: int) -> None:
        """Wait until the processes have accepted so many: daphne logs it after the page has the answer."""
        wait_for(lambda: self.sockets(room) == numbers)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder: Path = tmp_path_factory.mktemp("deployment")
    with running_redis() as redis:
        env = {"REDIS_URL": redis.url, "DATABASE_PATH": str(folder / "demo.sqlite3")}
        env |= {"SETTINGS": json.dumps(SETTINGS), "DJANGO_SETTINGS_MODULE": "tests.servers.django_settings"}
        deployment = Deployment(env)
        try:
            deployment.prepare()
            deployment.start()
            with nginx(folder, *deployment.processes.values(), balance="hash $cookie_process;") as port:
                deployment.port = port
                yield deployment
        finally:
            deployment.stop()
    for running in deployment.processes.values():
        assert "Traceback" not in running.logs()


@pytest.fixture(scope="module")
def flags(demo: Deployment) -> list[str]:
    """Make the browser resolve example.com to nginx's port and accept its certificate."""
    return [
        *FLAGS,
        f"--host-resolver-rules=MAP example.com:443 127.0.0.1:{demo.port}",
        "--ignore-certificate-errors",
    ]


def place(visitor, process):
    visitor.context.add_cookies([{"name": "process", "value": process, "url": visitor.demo.url}])
    return visitor


def test_a_chat_across_processes_that_outlives_one_of_them(visit, picture, demo):
    staff, member = place(visit(), "left"), place(visit(), "right")
    staff.log_in("staff", "/admin/login/?next=/chat/")
    member.log_in("member")
    one = online(staff.tab("/chat/general/"))
    demo.wait_for_sockets("general", left=1, right=0)
    two = online(member.tab("/chat/general/"))
    demo.wait_for_sockets("general", left=1, right=1)

    write(one, "Hello over there", two, "staff")
    one.get_by_label("Message", exact=True).press("Enter")
    expect(said(two, "Hello over there").locator("strong")).to_have_text("staff")
    expect(two.locator("#typing")).to_have_text("")
    write(two, "And back", one, "member")
    two.get_by_label("Message", exact=True).press("Enter")
    expect(said(one, "And back").locator("strong")).to_have_text("member")
    picture(two, "processes-right")

    one.evaluate(WATCH_STATE)
    demo.processes["left"].stop()
    say(two, "While you were away")
    say(one, "Written in between")
    for page in (one, two):
        expect(said(page, "While you were away")).to_have_count(1)
        expect(said(page, "Written in between")).to_have_count(1)
        expect(page.locator("#outbox li")).to_have_count(0)
    assert one.evaluate("states[0]") == "waiting"
    demo.wait_for_sockets("general", left=1, right=2)

    write(one, "Here I am", two, "staff")
    one.get_by_label("Message", exact=True).press("Enter")
    expect(said(two, "Here I am")).to_have_count(1)
    heard = [page.locator("#messages li .text").all_text_contents() for page in (one, two)]
    assert heard[0] == heard[1]
    assert len(heard[0]) == 5
    picture(one, "processes-left")
    rooms = staff.tab("/chat/")
    expect(rooms.get_by_role("link", name="General")).to_contain_text("last message just now")
    picture(rooms, "processes-rooms")
