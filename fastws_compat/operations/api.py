"""Listing, counting, closing and addressing the connections of all processes."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import async_to_sync

from fastws_compat import conf
from fastws_compat.connections.closing import close_reason, is_close_code
from fastws_compat.operations import census
from fastws_compat.operations.answers import Answer
from fastws_compat.operations.records import Done, Page, Process, Row, Traffic
from fastws_compat.operations.survey import Answers, ask, is_local

P = ParamSpec("P")
T = TypeVar("T")

# The close code that asks clients to reconnect.
COME_BACK = 1012


def _sync(call: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """The same for sync code: views, commands, tasks, the shell."""

    @wraps(call)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return async_to_sync(call)(*args, **kwargs)

    run.__name__ = run.__qualname__ = call.__name__.removeprefix("a")
    return run


async def asockets(
    *,
    user: Any = None,
    route: str | None = None,
    group: str | None = None,
    search: str | None = None,
    id: str | Iterable[str] | None = None,
    process: str | None = None,
    state: str | None = None,
    order: str = census.NEWEST,
    limit: int | None = None,
) -> Page:
    """The first `limit` connections, in order, of those in all processes that match every filter.

    `order` is "since", "messages", "user", "bytes", "waiting" or "last_in", each with "-" in front for
    descending order.
    `user` is a user, a primary key, or a user name as a `str`.
    """
    where = filters(user=user, route=route, group=group, search=search, id=id, process=process, state=state)
    return await page(where, order, limit)


async def page(
    where: Mapping[str, Any], order: str = census.NEWEST, limit: int | None = None, personal: bool = True
) -> Page:
    """Like `asockets`, for filters in the form in which they are sent."""
    if order.removeprefix("-") not in census.KEYS:
        raise ValueError(f"order={order!r} is unknown: use one of {', '.join(census.KEYS)}, or '-' and one.")
    most = conf.get("OPERATIONS_ROWS") if limit is None else limit
    answers = await ask("list", where, order=order, limit=max(most, 1), personal=personal)
    rows = [
        Row.from_wire(values, process)
        for process, parts in answers.parts.items()
        for part in parts
        for values in part.get("rows") or ()
    ]
    return Page(
        rows=list(census.ordered(rows, order, _key))[: max(most, 0)],
        total=answers.sum("total"),
        matched=answers.sum("matched"),
        silent=answers.silent,
        older=answers.older,
        processes=answers.answered,
        facets=_facets(answers),
        traffic={name: Traffic.from_wire(parts[-1].get("traffic")) for name, parts in answers.parts.items()},
        unreached_since=answers.unreached_since,
        local=is_local(),
    )


def _key(name: str, row: Row) -> Any:
    if name == "messages":
        return census.together(row.messages_in, row.messages_out)
    if name == "bytes":
        return census.together(row.bytes_in, row.bytes_out)
    return getattr(row, name)


def _facets(answers: Answers) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = {"route": Counter(), "login": Counter(), "state": Counter()}
    for answer in answers.last:
        for name, counts in (answer.get("facets") or {"route": answer.get("routes") or {}}).items():
            found.setdefault(name, Counter()).update(counts)
    processes = {name: parts[-1].get("total") or 0 for name, parts in sorted(answers.parts.items())}
    return {**{name: dict(counts.most_common()) for name, counts in found.items()}, "process": processes}


async def acount(
    *,
    user: Any = None,
    route: str | None = None,
    group: str | None = None,
    id: str | Iterable[str] | None = None,
    process: str | None = None,
) -> int:
    """The number of connections in all processes that match every filter."""
    where = filters(user=user, route=route, group=group, id=id, process=process)
    return (await ask("count", where)).sum("matched")


async def akick(
    *,
    user: Any = None,
    id: str | Iterable[str] | None = None,
    route: str | None = None,
    group: str | None = None,
    process: str | None = None,
    everything: bool = False,
    code: int = COME_BACK,
    reason: str = "",
    over: float = 0,
    by: Any = None,
) -> Done:
    """Close the connections in all processes that match every filter, within `over` seconds.

    Their endpoints see WebSocketDisconnect. Raises TypeError without a filter, and ValueError for a code that
    cannot be sent. The reason is truncated to 123 bytes. `by` is passed on to the signal `operated`.
    """
    where = filters(user=user, id=id, route=route, group=group, process=process)
    if everything:
        where["everything"] = True
    if not where:
        raise TypeError("kick() needs a filter: user, id, route, group or process, or everything=True.")
    return (await close(where, code=code, reason=reason, over=over, by=by))[0]


async def close(
    where: Mapping[str, Any],
    *,
    code: int,
    reason: str = "",
    over: float = 0,
    by: Any = None,
    spare: bool = False,
    personal: bool = True,
) -> tuple[Done, list[str]]:
    """Like `akick`, for filters as they are sent. Also returns the ids of superusers' sockets left open."""
    if not is_close_code(code):
        raise ValueError(
            f"A socket cannot be closed with {code!r}: use 1000 to 1003, 1007 to 1014, or 3000 to 4999."
        )
    if not 0 <= over < math.inf:
        raise ValueError(f"over={over!r} is not a number of seconds.")
    values = {"code": int(code), "reason": close_reason(reason), "over": over, "spare": spare}
    answers = await ask("close", where, personal=personal, **values)
    spared = [id for answer in answers.last for id in answer.get("spared") or ()]
    return await _done("kick", where, by, answers), spared


async def asend(id: str, message: Any, *, by: Any = None) -> Done:
    """Send a message to one connection: a `str` as text, anything else as JSON.

    It goes through the queue of the connection's groups. Raises TypeError for a message that cannot be sent.
    """
    from fastws_compat.layers.wire import encode

    payload = encode(message)
    return await send_payload(filters(id=id), payload.kind, payload.data, by)


async def send_payload(where: Mapping[str, Any], kind: str, data: str | bytes, by: Any) -> Done:
    """Send a frame to the connections that match filters in the form in which they are sent."""
    return await _done("send", where, by, await ask("send", where, kind=kind, data=data))


async def drain(where: Mapping[str, Any], *, over: float, undo: bool, by: Any = None) -> Done:
    """Take the processes that `where` selects out of service, or put them back."""
    answers = await ask("drain", where, over=over, undo=undo)
    drained = [answer for answer in answers.last if answer.get("drained")]
    done = _result(drained, answers)
    await _announce("undrain" if undo else "drain", where, by, done)
    return done


async def tap(id: str, action: str, *, by: Any, spare: bool, after: int = 0) -> dict[str, Any]:
    """Watch the messages of a connection: "start", "read", "renew" or "stop".

    The result has `matched`, the `messages` whose number is above `after`, and `refused` if nothing was done.
    """
    where = filters(id=id)
    answers = await ask("tap", where, action=action, by=str(by.pk), spare=spare, after=after)
    found = [answer for answer in answers.last if answer.get("matched") or answer.get("refused")]
    answer = found[0] if found else {"matched": 0, "refused": "gone"}
    if answer["matched"] and action in ("start", "stop"):
        await _announce(TAPS[action], where, by, Done(1, 1, answers.silent))
    return answer


# The actions of the signal `operated` when somebody begins and stops to watch.
TAPS = {"start": "tap", "stop": "untap"}


async def _done(action: str, where: Mapping[str, Any], by: Any, answers: Answers) -> Done:
    acted = [answer for answer in answers.last if answer.get("matched")]
    done = _result(acted, answers)
    await _announce(action, where, by, done)
    return done


def _result(acted: list[Answer], answers: Answers) -> Done:
    return Done(
        sum(answer["matched"] for answer in acted),
        len(acted),
        answers.silent,
        answers.older,
        answers.unreached_since,
        answers.answered,
    )


async def _announce(action: str, where: Mapping[str, Any], by: Any, done: Done) -> None:
    """Send the signal. If its module has not been imported, there are no receivers."""
    if (signals := sys.modules.get("fastws_compat.signals")) is not None:
        await signals.operated.asend_robust(sender=Done, action=action, where=dict(where), by=by, done=done)


async def aprocesses() -> list[Process]:
    """The processes that serve sockets, with what they have counted."""
    return (await survey_processes())[0]


async def survey_processes() -> tuple[list[Process], Answers]:
    answers = await ask("totals", {})
    found = [Process.from_wire(parts[-1], name) for name, parts in sorted(answers.parts.items())]
    return found, answers


def filters(*, user: Any = None, id: str | Iterable[str] | None = None, **values: Any) -> dict[str, Any]:
    """The filters of a call in the form in which they are sent."""
    where = {name: value for name, value in values.items() if value is not None}
    if id is not None:
        where["id"] = [id] if isinstance(id, str) else list(id)
    if user is not None:
        where |= _user_filter(user)
    return where


def _user_filter(user: Any) -> dict[str, Any]:
    if isinstance(user, str):
        return {"username": user}
    if getattr(user, "is_anonymous", False):
        return {"login": False}
    return {"user": census.owner(user) if hasattr(user, "pk") else str(user)}


async def _members_of(group: str) -> tuple[int, int]:
    """How many connections are in a group, and in how many processes."""
    answers = await ask("count", {"group": group})
    return answers.sum("matched"), sum(1 for answer in answers.last if answer.get("matched"))


sockets = _sync(asockets)
count = _sync(acount)
kick = _sync(akick)
send = _sync(asend)
processes = _sync(aprocesses)
members_of = _sync(_members_of)
