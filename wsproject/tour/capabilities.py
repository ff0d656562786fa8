"""What the home page shows: each capability, where to try it, and the code behind it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path

from django.urls import NoReverseMatch, reverse

FOLDER = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Capability:
    """One card of the home page. `code` names functions, classes or files of the demo."""

    slug: str
    title: str
    text: str
    code: tuple[str, ...]
    view: str = ""  # the name of a page to open
    socket: str = ""  # the path of a socket to try on the card
    lines: tuple[str, ...] = ()  # what the card offers to send
    needs: str = ""

    @cached_property
    def url(self) -> str:
        """The page to open; empty if there is none, or if the demo runs without it."""
        try:
            return reverse(self.view) if self.view else ""
        except NoReverseMatch:
            return ""

    @property
    def is_available(self) -> bool:
        """Whether this demo has it: the apps behind some pages may not be installed."""
        return bool(self.url or not self.view)

    def sources(self) -> Iterator[tuple[str, str]]:
        """The name and the text of everything in `code`."""
        for name in self.code:
            yield name, source(name)


def source(name: str) -> str:
    """The source of "chat/sockets.py", or of a function or a class as "tour.sockets:hello"."""
    if ":" not in name:
        return (FOLDER / name).read_text()
    module, _, attribute = name.partition(":")
    return inspect.getsource(getattr(import_module(f"wsproject.{module}"), attribute))


CAPABILITIES = (
    Capability(
        "chat",
        "A chat that reconnects",
        "Rooms show who is there. Stop the server, write, and start it again: nothing is lost or doubled.",
        (
            "chat/sockets.py",
            "chat/views.py",
            "chat/templates/chat/room.html",
            "chat/static/chat/room.js",
            "chat/models.py",
        ),
        view="chat:rooms",
        needs="login",
    ),
    Capability(
        "parameters",
        "Typed parameters",
        "Annotations validate the path, the query, headers and cookies. A wrong value refuses the handshake.",
        ("tour.sockets:hello",),
        socket="/ws/tour/hello/7?greeting=Welcome",
        lines=("It is me",),
    ),
    Capability(
        "dependencies",
        "Dependencies and the ORM",
        "Depends() as in FastAPI, with Django’s database in plain functions.",
        ("tour.sockets:get_rooms", "tour.sockets:rooms"),
        socket="/ws/tour/rooms",
    ),
    Capability(
        "messages",
        "Typed messages",
        "Pydantic models both ways. An invalid message is answered, and the socket stays open.",
        ("tour.sockets:Order", "tour.sockets:Receipt", "tour.sockets:kitchen"),
        socket="/ws/tour/kitchen",
        lines=('{"type": "order", "dish": "Soup", "portions": 2}', '{"type": "order", "dish": ""}'),
    ),
    Capability(
        "streams",
        "Streams",
        "An endpoint that yields sends each item and closes at the end.",
        ("tour.sockets:Tick", "tour.sockets:clock"),
        socket="/ws/tour/clock?ticks=5",
    ),
    Capability(
        "groups",
        "Groups, from any view",
        "Sockets join a name. A view, a signal or a command sends to it, in every process.",
        ("tour.sockets:newsroom", "tour.views:publish"),
        socket="/ws/tour/news",
    ),
    Capability(
        "history",
        "History",
        "The group keeps its newest messages. Write one, disconnect, and connect again.",
        ("tour.sockets:write_on_wall", "settings.py"),
        socket="/ws/tour/wall",
        lines=("I was here",),
    ),
    Capability(
        "presence",
        "Presence",
        "Who has joined, in all processes. Two tabs of one user count once. The frames are for live.js.",
        ("tour.sockets:people", "settings.py"),
        socket="/ws/tour/people?fastws=",
    ),
    Capability(
        "state",
        "State",
        "The last value of each key. A page that connects gets the current values, and then each change.",
        ("tour.sockets:Switch", "tour.sockets:switch_lamps", "settings.py"),
        socket="/ws/tour/lamps?fastws=",
        lines=(
            '{"type": "switch", "lamp": "hall", "on": true}',
            '{"type": "switch", "lamp": "hall", "on": false}',
        ),
    ),
    Capability(
        "logins",
        "Django’s logins",
        "The session’s user, before accept. When the user logs out, the socket closes with 4401.",
        ("tour.sockets:members",),
        socket="/ws/tour/members",
        needs="login",
    ),
    Capability(
        "permissions",
        "Permissions",
        "Visitors are refused with 401 and members with 403, before the endpoint runs. Staff may connect.",
        ("tour.sockets:staff",),
        socket="/ws/tour/staff",
    ),
    Capability(
        "limits",
        "Limits",
        "A fourth message within ten seconds closes with 4429, one of more than 100 bytes with 1009.",
        ("tour.sockets:limited",),
        socket="/ws/tour/limited",
        lines=("Again", "x" * 101),
    ),
    Capability(
        "codes",
        "Close codes and reasons",
        "The browser learns how and why a connection ended, on daphne too.",
        ("tour.sockets:wrong",),
        socket="/ws/tour/wrong",
    ),
    Capability(
        "operations",
        "The admin’s log, live",
        "Every change that staff save in the admin appears on this page at once.",
        ("ops/sockets.py", "ops/journal.py", "ops/signals.py", "ops/static/ops/live.js"),
        view="ops:live",
        needs="staff",
    ),
    Capability(
        "docs",
        "An interactive page of all sockets",
        "Every route with its parameters and messages, and a console to try it.",
        ("urls.py",),
        view="fastws_docs:page",
        needs="staff",
    ),
    Capability(
        "sockets",
        "Live sockets in the admin",
        "See and search who is connected, close sockets, and send messages.",
        ("settings.py",),
        view="admin:fastws_operations_livesocket_changelist",
        needs="staff",
    ),
    Capability(
        "types",
        "A generated client",
        "manage.py ws_types writes a client with the types of all messages. The chat’s page uses it.",
        ("chat/static/chat/sockets.d.ts", "chat/static/chat/room.js"),
        view="chat:rooms",
        needs="login",
    ),
    Capability(
        "setup",
        "Set up in one import",
        "asgi.py differs from Django’s in one line.",
        ("asgi.py", "settings.py"),
    ),
)
BY_SLUG = {capability.slug: capability for capability in CAPABILITIES}
