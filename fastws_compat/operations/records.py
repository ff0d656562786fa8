"""What the calls of the operations API return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Self

TIMES = ("since", "last_in", "last_out")


@dataclass(frozen=True, slots=True)
class Row:
    """One connection. What its server does not count is None."""

    id: str
    user_id: int | str | None
    # The user's name.
    user: str | None
    route: str | None
    endpoint: str | None
    path: str | None
    address: str | None
    agent: str | None
    since: datetime | None
    messages_in: int | None
    messages_out: int | None
    bytes_in: int | None
    bytes_out: int | None
    groups: list[str]
    # The number of messages that wait because the client reads too slowly.
    waiting: int
    last_in: datetime | None
    last_out: datetime | None
    # "handshaking", "open", "slow" or "closing".
    state: str
    subprotocol: str | None
    process: str
    server: str | None
    # Whether an operator is watching its messages.
    tapped: bool = False

    @classmethod
    def from_wire(cls, values: Mapping[str, Any], process: str) -> Self:
        """A row from the answer of a process, which may be older or newer than this one."""
        known: dict[str, Any] = {name: values.get(name) for name in ROW_FIELDS}
        known |= {name: _time(values.get(name)) for name in TIMES}
        known["groups"] = list(values.get("groups") or ())
        known["waiting"] = values.get("waiting") or 0
        known["tapped"] = bool(values.get("tapped"))
        known["state"] = values.get("state") or "open"
        return cls(**{**known, "id": str(values.get("id")), "process": process})


ROW_FIELDS = tuple(each.name for each in fields(Row))


def _time(seconds: Any) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if isinstance(seconds, int | float) else None


@dataclass(frozen=True, slots=True)
class Traffic:
    """The messages that a process has counted, and its event loop's lag. What it does not know is None."""

    messages_in: int | None = None
    messages_out: int | None = None
    # The 99th percentile of the last minute, in seconds.
    lag: float | None = None

    @classmethod
    def from_wire(cls, values: Any) -> Self:
        known = values if isinstance(values, dict) else {}
        return cls(known.get("messages_in"), known.get("messages_out"), known.get("lag"))


@dataclass(frozen=True, slots=True)
class Page:
    """The first rows of all processes that replied."""

    rows: list[Row]
    # The connections of all processes, and those that the filters select.
    total: int
    matched: int
    # The processes that did not reply, and those whose version does not know the query.
    silent: list[str]
    older: list[str]
    # The processes that replied.
    processes: list[str]
    # How many connections there are by route, process, state and login.
    facets: dict[str, dict[str, int]]
    # What each process that answered has counted.
    traffic: dict[str, Traffic] = field(default_factory=dict)
    # Since when the channel layer has failed, and whether there is none that reaches other processes.
    unreached_since: datetime | None = None
    local: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """The result of an operation: the numbers of connections and processes, and who did not reply."""

    count: int
    processes: int
    silent: list[str]


@dataclass(frozen=True, slots=True)
class Process:
    """One process that serves sockets."""

    process: str
    server: str | None
    version: str | None
    since: datetime | None
    open: int
    handshaking: int
    waiting: int
    opened: int | None
    closed: int | None
    messages_in: int | None
    messages_out: int | None
    bytes_in: int | None
    bytes_out: int | None
    # The 99th percentile of the event loop's lag in seconds, and the process's memory in bytes.
    lag: float | None
    rss: int | None
    # The channel layer's class, and whether it works.
    layer: str | None
    layer_up: bool
    draining: bool
    # The same counts by route.
    routes: dict[str, dict[str, Any]]

    def __str__(self) -> str:
        return self.process

    @classmethod
    def from_wire(cls, values: Mapping[str, Any], process: str) -> Self:
        known: dict[str, Any] = {name: values.get(name) for name in PROCESS_FIELDS}
        counts = {name: known[name] or 0 for name in ("open", "handshaking", "waiting")}
        flags = {"layer_up": values.get("layer_up", True), "draining": bool(values.get("draining"))}
        routes = values.get("routes")
        return cls(
            **{
                **known,
                **counts,
                **flags,
                "process": process,
                "since": _time(values.get("since")),
                "routes": routes if isinstance(routes, dict) else {},
            }
        )


PROCESS_FIELDS = tuple(each.name for each in fields(Process))
