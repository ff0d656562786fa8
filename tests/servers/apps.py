"""Bare ASGI applications for the tests of servers; `app` picks one by the first segment of the path.

What an application sees is recorded: `record("echo", "1000")` is a line "EVENT echo 1000" on stdout, and
"/events?name=echo" is a socket that answers with the detail once it is recorded. On a server that many tests
share, a test opens "/echo?as=mine" and waits for the event "mine".
"""

from __future__ import annotations

import asyncio
import json
import os
from urllib.parse import parse_qs

from fastws_compat.connections.states import TURN
from fastws_compat.types import Message, Receive, Scope, Send

if fastws := os.environ.get("FASTWS"):
    from django.conf import settings

    settings.configure(FASTWS=json.loads(fastws))

from fastws_compat.daphne import install

install()


class Journal:
    def __init__(self) -> None:
        self.details: dict[str, list[str]] = {}
        self.changed = asyncio.Event()

    def record(self, name: str, detail: object = "") -> None:
        # A single write, unlike print(), because a thread may write at the same time.
        os.write(1, f"EVENT {name} {detail}\n".encode())
        self.details.setdefault(name, []).append(str(detail))
        self.changed.set()
        self.changed = asyncio.Event()

    async def wait(self, name: str) -> str:
        while not self.details.get(name):
            await self.changed.wait()
        return self.details[name].pop(0)


journal = Journal()
record = journal.record


def options(scope: Scope) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(scope["query_string"].decode()).items()}


async def accepted(receive: Receive, send: Send) -> None:
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})


async def text(send: Send, value: object) -> None:
    await send({"type": "websocket.send", "text": value if isinstance(value, str) else json.dumps(value)})


async def disconnected(receive: Receive) -> Message:
    while (message := await receive())["type"] != "websocket.disconnect":
        pass
    return message


def outcome(message: Message) -> str:
    return f"{message['code']} {message.get('reason') or ''}".strip()


# Applications


async def events(scope: Scope, receive: Receive, send: Send) -> None:
    await accepted(receive, send)
    await text(send, await journal.wait(options(scope)["name"]))


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    await accepted(receive, send)
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
    record(options(scope).get("as", "echo"), outcome(message))


async def scope_(scope: Scope, receive: Receive, send: Send) -> None:
    await accepted(receive, send)
    plain = {name: value for name, value in scope.items() if name != TURN}  # of the completed daphne
    await text(send, json.dumps(plain, default=lambda value: value.decode("latin-1")))
    await disconnected(receive)


async def close(scope: Scope, receive: Receive, send: Send) -> None:
    given = options(scope)
    await accepted(receive, send)
    await send({"type": "websocket.close", "code": int(given["code"]), "reason": given.get("reason", "")})
    record(options(scope).get("as", "close"), outcome(await disconnected(receive)))


async def close_badly(scope: Scope, receive: Receive, send: Send) -> None:
    await accepted(receive, send)
    refused = []
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, -1):
        try:
            await send({"type": "websocket.close", "code": code})
        except ValueError:
            refused.append(code)
    await text(send, refused)


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.close", "code": 1008, "reason": "no"})
    record(options(scope).get("as", "refuse"), outcome(await disconnected(receive)))


async def accept(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    headers = [(b"Set-Cookie", b"a=1; Path=/"), (b"Set-Cookie", b"b=2"), (b"X-Name", b"caf\xe9")]
    subprotocol = options(scope).get("subprotocol")
    try:
        await send({"type": "websocket.accept", "headers": headers, "subprotocol": subprotocol})
    except Exception as error:
        record("accept", type(error).__name__)
        raise


async def accept_badly(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept", "headers": [(b"x-evil", b"a\r\nSet-Cookie: evil=1")]})


async def deny(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    headers = [(b"content-type", b"text/plain"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
    await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
    if "stream" in options(scope):
        await send({"type": "websocket.http.response.body", "body": b"not ", "more_body": True})
    await send({"type": "websocket.http.response.body", "body": b"today"})
    record(options(scope).get("as", "deny"), outcome(await disconnected(receive)))


async def deny_and_fail(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.http.response.start", "status": 401})
    raise LookupError("in the middle of a refusal")


async def fail_first(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    raise LookupError("before accept")


async def fail(scope: Scope, receive: Receive, send: Send) -> None:
    await accepted(receive, send)
    raise LookupError("after accept")


async def return_first(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()


async def return_(scope: Scope, receive: Receive, send: Send) -> None:
    await accepted(receive, send)


async def empty(scope: Scope, receive: Receive, send: Send) -> None:
    await accepted(receive, send)
    await send({"type": "websocket.send", "text": ""})
    await send({"type": "websocket.send", "bytes": b""})
    await disconnected(receive)


async def misuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Report the exception for each message that is sent in the wrong state."""
    await receive()
    raised = {}

    async def attempt(name: str, message: Message) -> None:
        try:
            await send(message)
        except Exception as error:
            raised[name] = type(error).__name__

    await attempt("send first", {"type": "websocket.send", "text": "early"})
    await attempt("unknown first", {"type": "websocket.nothing"})
    await send({"type": "websocket.accept"})
    await attempt("accept twice", {"type": "websocket.accept"})
    await attempt("unknown", {"type": "websocket.nothing"})
    await attempt("deny late", {"type": "websocket.http.response.start", "status": 401})
    await text(send, "ready")
    await receive()
    await send({"type": "websocket.close"})
    await attempt("send after close", {"type": "websocket.send", "text": "late"})
    await attempt("close twice", {"type": "websocket.close"})
    record("misuse", json.dumps(raised))


async def send_late(scope: Scope, receive: Receive, send: Send) -> None:
    await accepted(receive, send)
    message = await disconnected(receive)
    try:
        await text(send, "late")
    except OSError as error:
        record(options(scope)["as"], f"{type(error).__name__} {outcome(message)}")


async def flood(scope: Scope, receive: Receive, send: Send) -> None:
    """Send endlessly, and record how much was sent when the client leaves, and the exception."""
    await accepted(receive, send)
    sent, chunk = 0, b"x" * 65536
    try:
        while True:
            await send({"type": "websocket.send", "bytes": chunk})
            sent += len(chunk)
            if sent == 65536:
                record("flood started")
    except OSError:
        record("flood", sent)


async def deaf(scope: Scope, receive: Receive, send: Send) -> None:
    """Receive nothing until "go" is recorded, and then everything."""
    await accepted(receive, send)
    record("deaf accepted")
    await journal.wait("go")
    count = 0
    while (message := await receive())["type"] == "websocket.receive":
        count += 1
    record("deaf", f"{count} {outcome(message)}")


async def slow(scope: Scope, receive: Receive, send: Send) -> None:
    """Take 10 ms per message."""
    await accepted(receive, send)
    while (await receive())["type"] == "websocket.receive":
        await asyncio.sleep(0.01)


async def go(scope: Scope, receive: Receive, send: Send) -> None:
    record("go")
    await accepted(receive, send)


async def memory(scope: Scope, receive: Receive, send: Send) -> None:
    await accepted(receive, send)
    with open("/proc/self/statm") as statm:
        await text(send, int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE"))


async def never_answer(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    record("never_answer", outcome(await receive()))


async def patient(scope: Scope, receive: Receive, send: Send) -> None:
    """End some time after the disconnect, like a well-behaved endpoint."""
    await accepted(receive, send)
    record("patient accepted")
    try:
        message = await disconnected(receive)
        await asyncio.sleep(0.1)
        record("patient disconnected", outcome(message))
    finally:
        record("patient finally")


async def stubborn(scope: Scope, receive: Receive, send: Send) -> None:
    """Never receive; end only when cancelled, and after a short time."""
    await accepted(receive, send)
    record("stubborn accepted")
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.1)
        record("stubborn finally")


async def undead(scope: Scope, receive: Receive, send: Send) -> None:
    """Do not end even when cancelled."""
    await accepted(receive, send)
    record("undead accepted")
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            record("undead cancelled")


APPLICATIONS = {name.rstrip("_"): value for name, value in list(globals().items()) if callable(value)}


async def http(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] == "/wait":
        record("wait")
        try:
            await asyncio.Event().wait()
        finally:
            record("wait finally")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    scope["state"]["answer"] = 42
    record("startup")
    await send({"type": "lifespan.startup.complete"})
    await receive()
    record("shutdown")
    await send({"type": "lifespan.shutdown.complete"})


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        return await lifespan(scope, receive, send)
    if scope["type"] == "http":
        return await http(scope, receive, send)
    name = scope["path"].split("/")[1]
    return await APPLICATIONS.get(name, scope_)(scope, receive, send)


async def plain(scope: Scope, receive: Receive, send: Send) -> None:
    """The same without a lifespan."""
    if scope["type"] == "lifespan":
        raise ValueError("no lifespan here")
    await app(scope, receive, send)


async def unstartable(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "the database is on fire"})
