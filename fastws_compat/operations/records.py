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

    #: The identifier of the connection, unique among all processes.
    id: str
    #: The primary key of the user; None for a visitor.
    user_id: int | str | None
    #: The name of the user; None for a visitor.
    user: str | None
    #: The path of the route, with its parameters by name.
    route: str | None
    #: The dotted name of the endpoint.
    endpoint: str | None
    #: The path that the client requested.
    path: str | None
    #: The IP address of the client.
    address: str | None
    #: The User-Agent header of the client.
    agent: str | None
    #: When the connection was opened.
    since: datetime | None
    #: The number of messages that the client has sent.
    messages_in: int | None
    #: The number of messages that were sent to the client.
    messages_out: int | None
    #: The number of bytes that the client has sent.
    bytes_in: int | None
    #: The number of bytes that were sent to the client.
    bytes_out: int | None
    #: The names of the groups that the connection has joined.
    groups: list[str]
    #: The number of messages that wait because the client reads too slowly.
    waiting: int
    #: When the client sent its last message.
    last_in: datetime | None
    #: When the last message was sent to the client.
    last_out: datetime | None
    #: "handshaking", "open", "slow" or "closing".
    state: str
    #: The subprotocol that was accepted.
    subprotocol: str | None
    #: The name of the process that serves the connection.
    process: str
    #: The server that serves it.
    server: str | None
    #: Whether an operator is watching its messages.
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

    #: The number of messages received.
    messages_in: int | None = None
    #: The number of messages sent.
    messages_out: int | None = None
    #: The 99th percentile of the event loop's lag in the last minute, in seconds.
    lag: float | None = None

    @classmethod
    def from_wire(cls, values: Any) -> Self:
        """Return the counts that an answer contains; unknown ones are None."""
        known = values if isinstance(values, dict) else {}
        return cls(known.get("messages_in"), known.get("messages_out"), known.get("lag"))


@dataclass(frozen=True, slots=True)
class Page:
    """The first rows of all processes that replied."""

    #: The first rows, sorted as the query says.
    rows: list[Row]
    #: The number of connections in all processes.
    total: int
    #: The number of connections that the filters select.
    matched: int
    #: The processes that did not reply.
    silent: list[str]
    #: The processes whose version does not know the query.
    older: list[str]
    #: The processes that replied.
    processes: list[str]
    #: How many connections there are by route, process, state and login.
    facets: dict[str, dict[str, int]]
    #: What each process that answered has counted.
    traffic: dict[str, Traffic] = field(default_factory=dict)
    #: Since when the channel layer has failed; None if it works.
    unreached_since: datetime | None = None
    #: Whether there is no channel layer that reaches other processes.
    local: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """The result of an operation: how many connections and processes it concerned, and who did not reply."""

    #: The number of connections that it concerned.
    count: int
    #: The number of processes in which it concerned a connection, or which were drained.
    processes: int
    #: The processes that did not reply.
    silent: list[str]
    #: The processes whose version does not know the operation.
    older: list[str] = field(default_factory=list)
    #: Since when the channel layer has failed; None if it works.
    unreached_since: datetime | None = None
    #: The processes that replied.
    answered: list[str] = field(default_factory=list, compare=False)


@dataclass(frozen=True, slots=True)
class Process:
    """One process that serves sockets."""

    #: The name of the process.
    process: str
    #: The server and its version.
    server: str | None
    #: The version of the library.
    version: str | None
    #: When the process started to count.
    since: datetime | None
    #: The number of open connections.
    open: int
    #: The number of handshakes that are not yet answered.
    handshaking: int
    #: The number of messages that wait because their clients read too slowly.
    waiting: int
    #: The number of connections that have been opened so far.
    opened: int | None
    #: The number of connections that have been closed so far.
    closed: int | None
    #: The number of messages received.
    messages_in: int | None
    #: The number of messages sent.
    messages_out: int | None
    #: The number of bytes received.
    bytes_in: int | None
    #: The number of bytes sent.
    bytes_out: int | None
    #: The 99th percentile of the event loop's lag in the last minute, in seconds.
    lag: float | None
    #: The memory of the process in bytes.
    rss: int | None
    #: The class of the channel layer that reaches other processes; None if there is none.
    layer: str | None
    #: Whether the channel layer works.
    layer_up: bool
    #: Whether the process is draining its connections.
    draining: bool
    #: The same counts by route.
    routes: dict[str, dict[str, Any]]

    def __str__(self) -> str:
        return self.process

    @classmethod
    def from_wire(cls, values: Mapping[str, Any], process: str) -> Self:
        """Return the process that an answer describes; its version may differ from this one's."""
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
