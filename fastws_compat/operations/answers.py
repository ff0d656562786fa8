"""The answer of this process to a question of an operator.

    {"type": "fastws.control", "v": 1, "op": "list", "id": ..., "reply": channel, "at": time, "where": {...},
     "order": "-since", "limit": 100, "personal": True}

`op` is one of the keys of OPERATIONS. The answer is one or more messages:

    {"type": "fastws.answer", "id": ..., "process": "web-1:4121", "total": 3, "matched": 1, "routes": {...},
     "rows": [...], "last": True}
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from fastws_compat import conf
from fastws_compat.logger import logger
from fastws_compat.operations import census
from fastws_compat.operations.census import process_name

QUESTION, ANSWER = "fastws.control", "fastws.answer"
VERSION = 1
# The most rows in one message of an answer.
MAX_ROWS = 50
# Seconds that a question may travel, besides OPERATIONS_TIMEOUT. A process that was stopped drops older ones.
MARGIN = 1.0

Question = Mapping[str, Any]
Answer = dict[str, Any]


async def _list(question: Question) -> Answer:
    from fastws_compat.operations.totals import traffic

    everybody = census.everybody()
    found = await census.select(question.get("where") or {}, question.get("personal", True))
    order = question.get("order") or census.NEWEST
    limit = int(question.get("limit") or conf.get("OPERATIONS_ROWS"))
    personal = bool(question.get("personal", True))
    facets = await census.facets(everybody)
    rows = [census.row(each.session, personal) for each in census.best(found, order, limit)]
    return {
        "total": len(everybody),
        "matched": len(found),
        "routes": facets["route"],
        "facets": facets,
        "rows": rows,
        "traffic": traffic(),
    }


async def _count(question: Question) -> Answer:
    found = await census.select(question.get("where") or {}, question.get("personal", True))
    return {"total": len(census.everybody()), "matched": len(found)}


async def _close(question: Question) -> Answer:
    from fastws_compat.operations import acts

    if not any(value is not None for value in question["where"].values()):
        raise ValueError("a close needs a filter")
    found = await census.select(question["where"], question.get("personal", True))
    code, reason, over = question.get("code", 1012), question.get("reason", ""), question.get("over", 0)
    closed, spared = acts.close(found, code, reason, over, bool(question.get("spare")))
    return {"matched": closed, "spared": spared}


async def _send(question: Question) -> Answer:
    from fastws_compat.operations import acts

    found = await census.select(question["where"], question.get("personal", True))
    return {"matched": acts.deliver(found, question["kind"], question["data"])}


async def _totals(question: Question) -> Answer:
    from fastws_compat.operations.totals import totals

    return totals()


async def _drain(question: Question) -> Answer:
    from fastws_compat import health
    from fastws_compat.operations import acts

    where = question["where"]
    if not census.concerns(where):
        return {"drained": False, "matched": 0}
    found = census.everybody()
    if question.get("undo"):
        health.undo()
        return {"drained": True, "matched": len(found)}
    health.drain()
    return {"drained": True, "matched": acts.drain(found, float(question.get("over") or 0))}


async def _tap(question: Question) -> Answer:
    from fastws_compat.operations import taps

    for each in await census.select({"id": question["where"]["id"]}):
        return taps.act(each, question)
    return {"matched": 0}


OPERATIONS: dict[str, Callable[[Question], Awaitable[Answer]]] = {
    "list": _list,
    "count": _count,
    "close": _close,
    "send": _send,
    "totals": _totals,
    "drain": _drain,
    "tap": _tap,
}


def is_stale(question: Question) -> bool:
    """Whether a question is too old to be answered: the asker no longer waits."""
    asked = question.get("at")
    if not isinstance(asked, int | float):
        return False
    return time.time() - asked > float(conf.get("OPERATIONS_TIMEOUT")) + MARGIN


async def respond(question: Question) -> Answer:
    """The whole answer to a question, as one message; one with "error" if it cannot be answered."""
    head = {"type": ANSWER, "id": question.get("id"), "process": process_name(), "last": True}
    operation = OPERATIONS.get(str(question.get("op")))
    if operation is None:
        return {**head, "error": "unknown"}
    try:
        return {**head, **await operation(question)}
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        logger.warning("A question on the control line could not be answered (%s)", type(exc).__name__)
        return {**head, "error": "unknown"}


def parts(answer: Answer) -> Iterator[Answer]:
    """An answer as messages with at most `MAX_ROWS` rows, of which the last one says so."""
    rows = answer.get("rows", [])
    for start in range(0, max(len(rows), 1), MAX_ROWS):
        some = rows[start : start + MAX_ROWS]
        yield {**answer, "rows": some, "last": start + MAX_ROWS >= len(rows)}
