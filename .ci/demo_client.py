"""Waits for the demo that a log tells of, and talks to it as a newcomer: log in, chat, be refused."""

import asyncio
import json
import re
import sys
import time
import urllib.parse
import urllib.request
import uuid
from http.cookiejar import CookieJar
from pathlib import Path

import websockets

BASE = "http://127.0.0.1:8000"


def wait_for_demo(log: Path) -> str:
    for _ in range(600):
        try:
            urllib.request.urlopen(BASE, timeout=5).close()
            return log.read_text()
        except OSError:
            time.sleep(0.5)
    sys.exit(f"The demo did not start:\n{log.read_text()}")


def log_in(username: str, password: str) -> str:
    """The Cookie header of a browser that has logged in."""
    jar = CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    page = opener.open(f"{BASE}/login/").read().decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)[1]
    form = {"username": username, "password": password, "csrfmiddlewaretoken": token}
    request = urllib.request.Request(
        f"{BASE}/login/", urllib.parse.urlencode(form).encode(), {"Referer": f"{BASE}/login/"}
    )
    opener.open(request)
    cookies = {cookie.name: cookie.value for cookie in jar}
    assert "sessionid" in cookies, f"{username} could not log in"
    return "; ".join(f"{name}={value}" for name, value in cookies.items())


def connect(path: str, cookie: str = "") -> websockets.connect:
    headers = {"Cookie": cookie} if cookie else {}
    return websockets.connect(f"{BASE.replace('http', 'ws')}{path}", origin=BASE, additional_headers=headers)


async def refused(path: str, cookie: str = "") -> int:
    try:
        async with connect(path, cookie):
            return 101
    except websockets.InvalidStatus as exc:
        return exc.response.status_code


async def receive(socket: websockets.ClientConnection, kind: str, tag: str = "type") -> dict:
    async with asyncio.timeout(10):
        while (message := json.loads(await socket.recv())).get(tag) != kind:
            pass
        return message


async def talk(member: str, staff: str) -> None:
    assert await refused("/ws/chat/general") in (401, 403)
    assert await refused("/ws/nowhere", member) == 403
    assert await refused("/ws/ops", member) == 403
    async with connect("/ws/chat/general", member) as one, connect("/ws/chat/general", staff) as two:
        for socket in (one, two):
            await socket.send(json.dumps({"type": "ping"}))  # answered when the socket has joined the room
            await receive(socket, "pong")
        key = str(uuid.uuid4())
        await one.send(json.dumps({"type": "post", "key": key, "text": "hello from CI"}))
        assert (await receive(two, "said"))["text"] == "hello from CI"
    async with connect("/ws/ops?fastws=", staff) as ops:
        await receive(ops, "joined", tag="fastws")


def main() -> None:
    log = wait_for_demo(Path(sys.argv[1]))
    logins = dict(re.findall(r"^Log in as:\s+(\S+) / (\S+)$", log, re.MULTILINE))
    asyncio.run(talk(log_in("member", logins["member"]), log_in("staff", logins["staff"])))
    print("The demo answers a real client.")


main()
