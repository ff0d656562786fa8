"""The list of sockets as the admin shows it: its columns, filters and texts."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from asgiref.sync import async_to_sync
from django.urls import reverse
from django.utils import formats
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from fastws_compat.operations import api, census, masks
from fastws_compat.operations.rates import Meter, Rates
from fastws_compat.operations.records import Done, Page, Row
from fastws_compat.operations.survey import Answers

URLS = "fastws_operations_livesocket"
DASH = "–"
# Seconds for which a page is cached, so that many open browsers cause one query.
FRESH = 1.0
MAX_CACHED = 100

# The filters that the URL of the page can have, with the titles of those in the sidebar.
SIDEBAR = {
    "route": gettext_lazy("route"),
    "login": gettext_lazy("user"),
    "process": gettext_lazy("process"),
    "state": gettext_lazy("state"),
}
FILTERS = (*SIDEBAR, "group", "username")
LOGINS = {"yes": gettext_lazy("logged in"), "no": gettext_lazy("not logged in")}
STATES = {
    "open": gettext_lazy("open"),
    "slow": gettext_lazy("slow"),
    "handshaking": gettext_lazy("handshaking"),
    "closing": gettext_lazy("closing"),
}
# The filters with a fixed set of values.
VALUES = {"login": LOGINS, "state": STATES}
# The other parameters of the page: the order and the search.
OTHERS = ("o", "q")
ORDERS = {
    "since": (gettext_lazy("oldest first"), gettext_lazy("newest first")),
    "messages": (gettext_lazy("fewest messages first"), gettext_lazy("most messages first")),
    "user": (gettext_lazy("by user"), gettext_lazy("by user, reversed")),
    "bytes": (gettext_lazy("fewest bytes first"), gettext_lazy("most bytes first")),
    "waiting": (gettext_lazy("shortest queue first"), gettext_lazy("longest queue first")),
    "last_in": (gettext_lazy("longest idle first"), gettext_lazy("most recently active first")),
}


@dataclass(frozen=True, slots=True)
class Query:
    """The list that the URL of the page selects."""

    search: str
    filters: dict[str, str]
    order: str
    # The parameters that the page does not know: a list without them would be longer than what was asked for.
    unknown: tuple[str, ...] = ()

    @classmethod
    def from_request(cls, values: Mapping[str, str]) -> Query:
        order = values.get("o", "")
        filters = {name: values[name] for name in FILTERS if values.get(name)}
        wrong = [name for name, value in filters.items() if value not in VALUES.get(name, (value,))]
        for name in wrong:
            del filters[name]
        unknown = (*wrong, *(name for name in values if name not in (*FILTERS, *OTHERS)))
        known = order.removeprefix("-") in census.KEYS
        return cls(values.get("q", "").strip(), filters, order if known else census.NEWEST, unknown)

    @property
    def where(self) -> dict[str, Any]:
        """The filters in the form in which they are sent."""
        where: dict[str, Any] = dict(self.filters)
        if "login" in where:
            where["login"] = where["login"] == "yes"
        if self.search:
            where["search"] = self.search
        return where

    def address(self, **changes: str | None) -> str:
        """The query string of the page with changed filters; None removes one."""
        values = {"q": self.search, **self.filters, "o": "" if self.order == census.NEWEST else self.order}
        values |= {name: value or "" for name, value in changes.items()}
        return "?" + urlencode({name: value for name, value in values.items() if value})


# Asking

Answer = tuple[Page, Rates]

# Held for moments only: while processes are asked, nobody waits for it.
_lock = threading.Lock()
_cache: dict[Any, tuple[float, Answer]] = {}
# The questions that are being asked, with the answers to come.
_asked: dict[Any, Future[Answer]] = {}
_meter = Meter()


def ask(query: Query, personal: bool) -> Answer:
    """The page for a query, at most a second old, and the rates.

    Open browsers with the same query share a question; different queries are asked at the same time.
    """
    key = (repr(sorted(query.where.items())), query.order, personal)
    with _lock:
        at, cached = _cache.get(key, (-math.inf, None))
        if cached is not None and time.monotonic() - at <= FRESH:
            return cached
        other = _asked.get(key)
        own = _asked.setdefault(key, Future())
    return _ask(key, query, personal, own) if other is None else other.result()


def _ask(key: Any, query: Query, personal: bool, coming: Future[Answer]) -> Answer:
    """Ask the processes, and give the answer to everybody who waits for it."""
    try:
        page = async_to_sync(api.page)(query.where, query.order, personal=personal)
        with _lock:
            now = time.monotonic()
            answer = page, _meter.read(now, page.traffic)
            if _asked.get(key) is coming:
                _keep(key, now, answer)
    except BaseException as exc:
        coming.set_exception(exc)
        raise
    finally:
        with _lock:
            if _asked.get(key) is coming:
                del _asked[key]
    coming.set_result(answer)
    return answer


def _keep(key: Any, now: float, answer: Answer) -> None:
    if len(_cache) >= MAX_CACHED:
        _cache.clear()
    _cache[key] = now, answer


def forget() -> None:
    """Drop the cached pages and those to come, because an operator has changed something."""
    with _lock:
        _cache.clear()
        _asked.clear()


# Texts


def ago(when: datetime | None) -> str:
    """How long ago something was, in the largest unit that fits."""
    return DASH if when is None else duration((datetime.now(UTC) - when).total_seconds())


def duration(seconds: float) -> str:
    seconds = max(0, round(seconds))
    if seconds < 60:
        return _("%d s") % seconds
    if seconds < 3600:
        return _("%d min") % (seconds // 60)
    if seconds < 48 * 3600:
        return _("%d h") % (seconds // 3600)
    return _("%d d") % (seconds // 86400)


def number(value: float | None, decimals: int = 0) -> str:
    """A number as the language groups it: 1,204 in English, 1.204 in German."""
    if value is None:
        return DASH
    return formats.number_format(f"{value:.{decimals}f}", decimals, force_grouping=True)


def size(value: int | None) -> str:
    if value is None:
        return DASH
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{number(value)} {unit}"
        value //= 1024
    return f"{number(value)} GiB"


def rate(value: float | None) -> str:
    """Messages per second: small rates with a decimal, so that only nothing is shown as 0."""
    if value is None:
        return DASH
    if 0 < value < 10:
        return number(max(value, 0.1), 1)
    return number(value)


def lag(seconds: float | None) -> str:
    if seconds is None:
        return DASH
    return "< 1 ms" if seconds < 0.001 else f"{number(seconds * 1000)} ms"


def _user(row: Row) -> str:
    return row.user or DASH


def _marked_user(row: Row) -> str:
    return _("%s (watched)") % _user(row) if row.tapped else _user(row)


def _messages(row: Row) -> str:
    return f"{number(row.messages_in)} / {number(row.messages_out)}"


def _bytes(row: Row) -> str:
    return f"{size(row.bytes_in)} / {size(row.bytes_out)}"


def _waiting(row: Row) -> str:
    return f"▲ {number(row.waiting)}" if row.waiting else "0"


def _agent(row: Row) -> str:
    """The browser's name if the agent has one; the page of the socket has the whole agent."""
    return masks.agent(row.agent) or Truncator(row.agent or DASH).chars(40)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the list. `order` is the key by which it sorts; wide ones need a wide screen."""

    name: str
    label: Any
    text: Callable[[Row], str]
    order: str | None = None
    wide: bool = False


COLUMNS = (
    Column("user", gettext_lazy("user"), _marked_user, "user"),
    Column("route", gettext_lazy("route"), lambda row: row.route or DASH),
    Column("since", gettext_lazy("since"), lambda row: ago(row.since), "since"),
    Column("heard", gettext_lazy("heard"), lambda row: ago(row.last_in), "last_in"),
    Column("messages", gettext_lazy("in / out"), _messages, "messages"),
    Column("waiting", gettext_lazy("waiting"), _waiting, "waiting"),
    Column("groups", gettext_lazy("groups"), lambda row: number(len(row.groups))),
    Column("address", gettext_lazy("address"), lambda row: row.address or DASH, wide=True),
    Column("agent", gettext_lazy("agent"), _agent, wide=True),
    Column("bytes", gettext_lazy("bytes in / out"), _bytes, "bytes", wide=True),
    Column("process", gettext_lazy("process"), lambda row: row.process, wide=True),
)


def shown(row: Row, site: str) -> dict[str, Any]:
    """A row as the page shows it, and as `data/` sends it."""
    return {
        "id": row.id,
        "state": row.state,
        "label": _("%(user)s on %(route)s") % {"user": _user(row), "route": row.route},
        "url": reverse(f"{site}:{URLS}_change", args=[row.id]),
        "cells": [
            {"name": each.name, "label": str(each.label), "text": each.text(row), "wide": each.wide}
            for each in COLUMNS
        ],
    }


def headers(query: Query) -> list[dict[str, Any]]:
    """The headers of the columns, each with the URL that sorts by it."""
    found = []
    for each in COLUMNS:
        is_current = each.order is not None and query.order.removeprefix("-") == each.order
        ascending = is_current and not query.order.startswith("-")
        first = each.order if each.order == "user" else f"-{each.order}"
        other = query.order.removeprefix("-") if not ascending else f"-{each.order}"
        found.append(
            {
                "column": each,
                "url": None if each.order is None else query.address(o=other if is_current else first),
                "sort": (("ascending" if ascending else "descending") if is_current else None),
            }
        )
    return found


def sidebar(query: Query, page: Page) -> list[dict[str, Any]]:
    """The filters beside the list, with how many sockets each selects."""
    return [
        {"title": title, "choices": _choices(name, query, page.facets.get(name, {}))}
        for name, title in SIDEBAR.items()
        if page.facets.get(name) or name in query.filters
    ]


def _choices(name: str, query: Query, counts: Mapping[str, int]) -> list[dict[str, Any]]:
    chosen = query.filters.get(name)
    names: Mapping[str, Any] = VALUES.get(name, {})
    values = [*counts, *([chosen] if chosen and chosen not in counts else [])]
    return [
        {"url": query.address(**{name: None}), "text": _("All"), "count": None, "selected": chosen is None},
        *(
            {
                "url": query.address(**{name: value}),
                "text": str(names.get(value, value)),
                "count": number(counts.get(value, 0)),
                "selected": value == chosen,
            }
            for value in values
        ),
    ]


def summary(page: Page, rates: Rates) -> str:
    """The sentence above the list."""
    processes = len(page.processes)
    return " · ".join(
        [
            _("%s open") % number(page.total),
            ngettext("%d process", "%d processes", processes) % processes,
            _("%s in/s") % rate(rates.messages_in),
            _("%s out/s") % rate(rates.messages_out),
            _("lag p99 %s") % lag(rates.lag),
        ]
    )


def footer(query: Query, page: Page) -> str:
    """The sentence below the list."""
    count = len(page.rows)
    if not count:
        return ""
    name = query.order.removeprefix("-")
    order = ORDERS[name][query.order.startswith("-")]
    values = {"count": number(count), "matched": number(page.matched), "order": order}
    if count < page.matched:
        text = _("Showing %(count)s of %(matched)s, %(order)s. Narrow the search to see others.")
        return text % values
    return ngettext("%(count)s socket, %(order)s", "%(count)s sockets, %(order)s", count) % values


def warnings(page: Page) -> list[str]:
    """Warnings about what the list lacks."""
    found = []
    if page.silent:
        names = ", ".join(page.silent)
        found.append(_("No answer from %s; its sockets are not listed.") % names)
    return [*found, *unheard(page)]


def missing(found: Answers | Done) -> list[str]:
    """Warnings about the processes that have not answered."""
    silent = [_("No answer from %s.") % ", ".join(found.silent)] if found.silent else []
    return [*silent, *unheard(found)]


def unheard(found: Answers | Done | Page) -> list[str]:
    """Warnings about the processes that do not know the question, or have not got it."""
    texts = []
    if found.older:
        texts.append(_("No answer from %s, which runs an older version.") % ", ".join(found.older))
    if found.unreached_since is not None:
        texts.append(_("Other processes are not reached since %s.") % f"{found.unreached_since:%H:%M} UTC")
    return texts


def empty(query: Query, page: Page) -> str:
    """Why no socket is listed."""
    if page.rows:
        return ""
    if page.total:
        return _("No socket fits the search and the filters.")
    if not page.processes:
        if page.local:
            return _(
                "No socket is open: this process serves none, and its channel layer does not reach others."
            )
        return _("No socket is open: no process answers. Is the app installed in the servers?")
    return _("No socket is open.")
