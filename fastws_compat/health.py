"""Whether this process accepts traffic: the answers of its probes, and draining."""

from __future__ import annotations

from typing import Literal

from fastws_compat import conf
from fastws_compat.connections.registry import everywhere
from fastws_compat.requests import get_route_path
from fastws_compat.types import ASGIApp, Message, Receive, Scope, Send

State = Literal["starting", "ready", "draining"]

# Whether the lifespan is starting; whether SIGTERM has been received; whether an operator is draining the
# process, which then refuses handshakes.
is_starting = is_stopping = is_closed = False


def drain() -> None:
    """Make the process not ready, and have it refuse handshakes with 503; open sockets stay open."""
    global is_closed
    is_closed = True


def undo() -> None:
    """Accept handshakes again, and be ready unless the process is stopping."""
    global is_closed
    is_closed = False


def stop() -> None:
    """Make the process not ready; it continues to serve until it stops listening."""
    global is_stopping
    is_stopping = True


def is_draining() -> bool:
    return is_stopping or is_closed


def state() -> State:
    if is_draining():
        return "draining"
    return "starting" if is_starting else "ready"


def is_full() -> bool:
    """Whether the process has reached `MAX_CONNECTIONS`, which counts only the sockets of routes."""
    most = conf.get("MAX_CONNECTIONS")
    return most is not None and sum(each.websocket is not None for each in everywhere()) >= most


async def lifespan(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Run the lifespan of `app`; the process is starting until the lifespan's startup is complete."""
    global is_starting

    async def noting(message: Message) -> None:
        global is_starting
        is_starting = False
        await send(message)

    is_starting = True
    try:
        await app(scope, receive, noting)
    finally:
        is_starting = False


class Probes:
    """Answers the probes of load balancers below a path, and passes everything else on.

    Its requests do not reach Django, so `ALLOWED_HOSTS`, HTTPS redirects and the database do not matter.
    """

    def __init__(self, inner: ASGIApp, path: str) -> None:
        self.application = inner
        self._probes = {f"{path}live": live, f"{path}ready": ready, f"{path}ready/sockets": ready_for_sockets}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # uvicorn puts --root-path before the path of every request, also of one that did not pass the proxy.
        probe = self._probes.get(get_route_path(scope))
        if probe is None or scope["method"] not in ("GET", "HEAD"):
            await self.application(scope, receive, send)
            return
        status, word = probe()
        body = word.encode()
        headers = [
            (b"content-type", b"text/plain"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def live() -> tuple[int, str]:
    return 200, "live"


def ready() -> tuple[int, str]:
    found = state()
    return (200 if found == "ready" else 503), found


def ready_for_sockets() -> tuple[int, str]:
    status, word = ready()
    return (503, "full") if status == 200 and is_full() else (status, word)
