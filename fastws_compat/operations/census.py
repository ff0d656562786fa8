"""The connections of this process, as the operations API lists and selects them.

Nothing is stored for it: everything is read from the sessions when somebody asks.
"""

from __future__ import annotations

import asyncio
import heapq
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from fastws_compat import conf
from fastws_compat.connections import users
from fastws_compat.connections.registry import registries
from fastws_compat.connections.states import CONNECTED, CONNECTING, DISCONNECTED, MEMBER
from fastws_compat.operations import masks
from fastws_compat.terminal import printable

# After this many connections other tasks get a turn.
SLICE = 500
# The most routes of a facet; the others are counted together.
OTHER = "(other)"
# The taps of the connections that are being watched, by their ids.
tapped: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Found:
    """A connection and the loop that serves it."""

    loop: asyncio.AbstractEventLoop
    session: Any


def process_name() -> str:
    """The name of this process: `host:pid`."""
    return f"{host()}:{os.getpid()}"


@cache
def host() -> str:
    return socket.gethostname()


def serves() -> bool:
    """Whether this process serves sockets, or is about to."""
    return bool(registries())


def everybody() -> list[Found]:
    """Every connection of this process; callable from any thread."""
    return [Found(loop, each) for loop, found in registries() for each in list(found.connections)]


# What is read from a session


def user_of(session: Any) -> Any:
    """The user who is logged in, as far as that is known without a query."""
    return users.user_of(session.scope)


def name_of(session: Any) -> str | None:
    return users.name_of(session.scope)


def user_id_of(session: Any) -> int | str | None:
    key = getattr(user_of(session), "pk", None)
    return key if key is None or isinstance(key, int) else str(key)


def is_superuser(session: Any) -> bool:
    return bool(getattr(user_of(session), "is_superuser", False))


def route_of(session: Any) -> str:
    template: str = session.template
    return template


def path_of(session: Any) -> str:
    return str(session.scope.get("path", ""))


def address_of(session: Any) -> str | None:
    client = session.scope.get("client")
    return str(client[0]) if client else None


def agent_of(session: Any) -> str | None:
    for name, value in session.scope.get("headers") or ():
        if name == b"user-agent":
            return printable(value.decode("latin-1"))
    return None


def groups_of(session: Any) -> list[str]:
    member = session.scope.get(MEMBER)
    return [] if member is None else [name for _, name in list(member.joined)]


def waiting_of(session: Any) -> int:
    member = session.scope.get(MEMBER)
    return 0 if member is None else len(member._queue)


def state_of(session: Any) -> str:
    websocket = session.websocket
    gone = websocket is not None and websocket.client_state is DISCONNECTED
    if gone or session.leaving or session.state not in (CONNECTING, CONNECTED):
        return "closing"
    if session.state is CONNECTING:
        return "handshaking"
    return "slow" if waiting_of(session) else "open"


def subprotocol_of(session: Any) -> str | None:
    return getattr(session.websocket, "_subprotocol", None)  # unset unless one was accepted


def server_of(session: Any) -> str | None:
    parts = type(session.server).__module__.split(".")
    return (
        None if session.server is None else next((p for p in parts if p in ("daphne", "uvicorn")), parts[0])
    )


def since(session: Any) -> float:
    """When the connection began, on the clock of `time.time()`."""
    return float(session.since)


def messages(session: Any) -> int | None:
    return together(session.messages_in, session.messages_out)


def size(session: Any) -> int | None:
    return together(session.bytes_in, session.bytes_out)


def together(*counts: int | None) -> int | None:
    """The sum of the counts that are known."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


# Rows


def row(session: Any, personal: bool = True) -> dict[str, Any]:
    """The row of a connection, as it is sent to the asker."""
    shown = FULL if personal else shown_to_others()
    return {
        "id": session.id,
        "user_id": user_id_of(session),
        "user": name_of(session),
        "route": route_of(session),
        "endpoint": getattr(session.scope.get("route"), "name", None),
        **{name: read(session) for name, read in shown.items()},
        "since": since(session),
        "messages_in": session.messages_in,
        "messages_out": session.messages_out,
        "bytes_in": session.bytes_in,
        "bytes_out": session.bytes_out,
        "waiting": waiting_of(session),
        "last_in": session.last_in,
        "last_out": session.last_out,
        "state": state_of(session),
        "subprotocol": subprotocol_of(session),
        "server": server_of(session),
        "tapped": session.id in tapped,
    }


Shown = Mapping[str, Callable[[Any], Any]]

FULL: Shown = {"path": path_of, "address": address_of, "agent": agent_of, "groups": groups_of}
MASKED: Shown = {
    "path": route_of,
    "address": lambda session: masks.address(address_of(session)),
    "agent": lambda session: masks.agent(agent_of(session)),
    "groups": lambda session: sorted({masks.group(name) for name in groups_of(session)}),
}
NONE: Shown = {
    "path": route_of,
    "address": lambda session: None,
    "agent": lambda session: None,
    "groups": MASKED["groups"],
}


def shown_to_others() -> Shown:
    """The row for users who may not see personal data."""
    return {"full": FULL, "mask": MASKED, "none": NONE}[conf.get("OPERATIONS_ADDRESS")]


# Filters

Test = Callable[[Any], bool]


def _by_group(value: Any, personal: bool) -> Test:
    groups = (FULL if personal else shown_to_others())["groups"]
    return lambda session: value in groups(session)


def _by_search(value: Any, personal: bool) -> Test:
    text, shown = str(value).casefold(), FULL if personal else shown_to_others()

    def fits(session: Any) -> bool:
        others = (read(session) for read in shown.values())
        # An id is created when it is first needed, so one that has not been shown cannot be searched for.
        texts = [name_of(session), route_of(session), session._id, *others]
        return any(text in str(found).casefold() for found in texts if found)

    return fits


def _by_user(value: Any, personal: bool) -> Test:
    return lambda session: owner_of(session) == str(value)


def owner_of(session: Any) -> str | None:
    """The key of the user in the form in which `user=` is sent, with the tenant if there is one."""
    user = user_of(session)
    return None if user is None else owner(user)


def owner(user: Any) -> str:
    """A text that identifies a user among those of all tenants."""
    from fastws_compat.logins.tenants import owner_key

    key = owner_key(user)
    return "/".join(map(str, key)) if isinstance(key, tuple) else str(key)


def _is(read: Callable[[Any], Any]) -> Callable[[Any, bool], Test]:
    return lambda value, personal: lambda session: read(session) == value


FILTERS: dict[str, Callable[[Any, bool], Test]] = {
    "id": lambda value, personal: lambda session: session._id in value,
    "user": _by_user,
    "username": _is(name_of),
    "login": lambda value, personal: lambda session: (user_of(session) is not None) is value,
    "route": _is(route_of),
    "group": _by_group,
    "state": _is(state_of),
    "search": _by_search,
    # Every connection, of those that the other filters select.
    "everything": lambda value, personal: lambda session: True,
}


def concerns(where: Mapping[str, Any], process: str = "") -> bool:
    """Whether a question concerns a process, by default this one."""
    name = process or process_name()
    return where.get("process") in (None, name) and where.get("host") in (None, name.rpartition(":")[0])


def tests(where: Mapping[str, Any], personal: bool) -> list[Test]:
    """The filters of a question as functions; KeyError for one that this version does not know."""
    return [
        FILTERS[name](value, personal)
        for name, value in where.items()
        if name not in ("process", "host") and value is not None
    ]


async def slices(found: Sequence[Found]) -> Any:
    """The connections, with a turn for other tasks now and then; those that have ended are left out."""
    for number, each in enumerate(found, 1):
        if each.session.websocket is not None or each.session.scope.get("path"):
            yield each
        if not number % SLICE:
            await asyncio.sleep(0)


async def select(where: Mapping[str, Any], personal: bool = True) -> list[Found]:
    """The connections that the filters of a question select."""
    fits = tests(where, personal)
    if not concerns(where):
        return []
    return [each async for each in slices(everybody()) if all(fit(each.session) for fit in fits)]


# Order

KEYS: dict[str, Callable[[Any], Any]] = {
    "since": since,
    "messages": messages,
    "user": name_of,
    "bytes": size,
    "waiting": waiting_of,
    "last_in": lambda session: session.last_in,
}
NEWEST = "-since"


def ordered(values: Sequence[Any], order: str, read: Callable[[str, Any], Any]) -> Iterator[Any]:
    """The values sorted by one key; those without it are last in both directions."""
    name = order.removeprefix("-")
    keyed = [(read(name, value), number, value) for number, value in enumerate(values)]
    with_key = [item for item in keyed if item[0] is not None]
    with_key.sort(key=lambda item: item[0], reverse=order.startswith("-"))
    return (value for _, _, value in [*with_key, *(item for item in keyed if item[0] is None)])


def best(found: Sequence[Found], order: str, limit: int) -> list[Found]:
    """The first connections in an order."""
    read = KEYS[order.removeprefix("-")]
    with_key = [(key, each) for each in found if (key := read(each.session)) is not None]
    choose = heapq.nlargest if order.startswith("-") else heapq.nsmallest
    chosen = [each for _, each in choose(limit, with_key, key=lambda item: item[0])]
    if len(chosen) < limit:
        chosen += [each for each in found if read(each.session) is None][: limit - len(chosen)]
    return chosen


async def facets(found: Sequence[Found]) -> dict[str, dict[str, int]]:
    """How many connections there are by route, login and state."""
    routes, logins, states = Counter[str](), Counter[str](), Counter[str]()
    async for each in slices(found):
        routes[route_of(each.session)] += 1
        logins["no" if user_of(each.session) is None else "yes"] += 1
        states[state_of(each.session)] += 1
    return {"route": capped(routes), "login": dict(logins), "state": dict(states)}


def max_routes() -> int:
    """How many routes are told apart."""
    most: int = conf.get("METRICS_ROUTES")
    return most


def capped(routes: Counter[str]) -> dict[str, int]:
    """The most frequent routes; the others are counted as one."""
    kept = dict(routes.most_common(max_routes()))
    if rest := routes.total() - sum(kept.values()):
        kept[OTHER] = kept.get(OTHER, 0) + rest
    return kept
