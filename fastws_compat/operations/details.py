"""One socket, its watched messages and one process as the admin shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from django.utils import formats, timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from fastws_compat.operations import listing
from fastws_compat.operations.records import Row


def fields(row: Row) -> list[tuple[Any, str]]:
    """Every field of a socket, with its label."""
    return [
        (gettext_lazy("User"), row.user or listing.DASH),
        (gettext_lazy("User id"), listing.DASH if row.user_id is None else str(row.user_id)),
        (gettext_lazy("Route"), row.route or listing.DASH),
        (gettext_lazy("Endpoint"), row.endpoint or listing.DASH),
        (gettext_lazy("Path"), row.path or listing.DASH),
        (gettext_lazy("Address"), row.address or listing.DASH),
        (gettext_lazy("User agent"), row.agent or listing.DASH),
        (gettext_lazy("Since"), moment(row.since)),
        (gettext_lazy("State"), state(row)),
        (gettext_lazy("Messages in"), listing.number(row.messages_in)),
        (gettext_lazy("Messages out"), listing.number(row.messages_out)),
        (gettext_lazy("Bytes in"), listing.number(row.bytes_in)),
        (gettext_lazy("Bytes out"), listing.number(row.bytes_out)),
        (gettext_lazy("Waiting messages"), listing.number(row.waiting)),
        (gettext_lazy("Last heard"), moment(row.last_in)),
        (gettext_lazy("Last sent"), moment(row.last_out)),
        (gettext_lazy("Groups"), ", ".join(row.groups) or listing.DASH),
        (gettext_lazy("Subprotocol"), row.subprotocol or listing.DASH),
        (gettext_lazy("Process"), row.process),
        (gettext_lazy("Server"), row.server or listing.DASH),
    ]


def state(row: Row) -> str:
    found = str(listing.STATES.get(row.state, row.state))
    return _("%s, watched") % found if row.tapped else found


def moment(when: Any) -> str:
    """A time, and how long ago it was."""
    if when is None:
        return listing.DASH
    shown = timezone.localtime(when) if timezone.is_aware(when) else when
    return f"{formats.date_format(shown, 'DATETIME_FORMAT')} ({listing.ago(when)})"


PROCESS_HEADS = (
    gettext_lazy("Process"),
    gettext_lazy("Server"),
    gettext_lazy("Since"),
    gettext_lazy("Open"),
    gettext_lazy("Handshakes"),
    gettext_lazy("Waiting"),
    gettext_lazy("In / out"),
    gettext_lazy("Lag p99"),
    gettext_lazy("Memory"),
    gettext_lazy("Layer"),
    gettext_lazy("State"),
)


def process_cells(process: Any) -> list[tuple[Any, str]]:
    layer = process.layer or listing.DASH
    values = [
        process.process,
        f"{process.server or listing.DASH}",
        listing.ago(process.since),
        listing.number(process.open),
        listing.number(process.handshaking),
        listing.number(process.waiting),
        f"{listing.number(process.messages_in)} / {listing.number(process.messages_out)}",
        listing.lag(process.lag),
        listing.size(process.rss),
        layer if process.layer_up else _("%s fails") % layer,
        _("draining") if process.draining else _("serving"),
    ]
    return list(zip(PROCESS_HEADS, values, strict=True))


ARROWS = {"in": gettext_lazy("in"), "out": gettext_lazy("out")}


def lines(messages: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The messages of a watched socket, the newest first."""
    return [line(each) for each in reversed(list(messages))]


def line(message: Mapping[str, Any]) -> dict[str, Any]:
    when = timezone.localtime(datetime.fromtimestamp(message["at"], UTC))
    return {
        "number": message["number"],
        "direction": message["direction"],
        "time": f"{when:%H:%M:%S}.{when.microsecond // 1000:03}",
        "way": str(ARROWS[message["direction"]]),
        "kind": message["kind"],
        "size": listing.size(message["size"]),
        "text": message["text"] + (" …" if message["cut"] else ""),
    }
