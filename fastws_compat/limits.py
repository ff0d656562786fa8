"""The limits of a route: on its messages, on the lifetime of its connections, and on their number."""

from __future__ import annotations

import math
import re
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from threading import TIMEOUT_MAX
from typing import Any, Literal, Protocol, TypedDict

from fastws_compat import conf
from fastws_compat.connections.addresses import counted
from fastws_compat.connections.guard import Guard, Rate
from fastws_compat.connections.outcomes import Reason, refusal
from fastws_compat.connections.refusal import retry_after
from fastws_compat.connections.states import DEFLATE
from fastws_compat.deflate import DeflateOptions, compile_deflate
from fastws_compat.exceptions import DeclarationError
from fastws_compat.logger import logger
from fastws_compat.types import Scope
from fastws_compat.websockets import WebSocket

MAX_MESSAGE_SIZE = conf.DEFAULTS["MAX_MESSAGE_SIZE"]


class LimitOptions(TypedDict, total=False):
    """Limits of an application, a router or a route. The innermost value wins; None means no limit."""

    #: Maximum size of a message in bytes; a larger one closes the connection with 1009.
    max_message_size: int | None
    #: "20/s", "100/m", "64KiB/s", or several of them; exceeding one closes the connection with 4429.
    rate_limit: str | Sequence[str] | None
    #: Seconds without a message in either direction, after which the connection is closed with 4408.
    idle_timeout: float | None
    #: Seconds after which the connection is closed with 4408.
    max_age: float | None
    #: Maximum number of open connections; more are refused with 503.
    max_connections: int | None
    #: Maximum number of open connections of one user; more are refused with 429.
    max_connections_per_user: int | None
    #: Maximum number of open connections of one address; more are refused with 429.
    max_connections_per_address: int | None
    #: Whether to compress messages on the completed daphne, and how.
    deflate: bool | DeflateOptions | None
    #: What happens to an invalid message for a TypedWebSocket: "answer" (the default), "close" or "raise".
    on_invalid: Literal["answer", "close", "raise"]
    #: Maximum number of invalid messages in a row.
    max_invalid: int | None


class Guarded(Protocol):
    """What a guard needs of the connection's session."""

    guard: Guard | None

    def spawn(self, work: Coroutine[Any, Any, None]) -> None: ...


OPTIONS = LimitOptions.__annotations__.keys()
CAPS = {
    "max_connections": "all",
    "max_connections_per_user": "user",
    "max_connections_per_address": "address",
}
REASONS: dict[str, Reason] = {"all": "limit_process", "user": "limit_user", "address": "limit_address"}
# The settings with the same caps for the whole process.
SETTINGS = {name: name.upper() for name in CAPS}
CAP_SETTINGS = frozenset(SETTINGS.values())


def split(options: Mapping[str, Any]) -> tuple[LimitOptions, dict[str, Any]]:
    """The limits among the options, and the others."""
    limits: Any = {name: value for name, value in options.items() if name in OPTIONS}
    return limits, {name: value for name, value in options.items() if name not in OPTIONS}


class Limits:
    """The limits declared in one place; `outer | inner` combines two, and the inner values win."""

    __slots__ = ("_capped", "_compiled", "guards", "options")

    def __init__(self, options: LimitOptions | Mapping[str, Any] = {}) -> None:  # noqa: B006
        for unknown in sorted(options.keys() - OPTIONS):
            raise TypeError(f"There is no limit {unknown!r}, only {', '.join(OPTIONS)}.")
        self._set(dict(options), {name: compile_option(name, value) for name, value in options.items()})

    def _set(self, options: dict[str, Any], compiled: dict[str, Any]) -> None:
        # The limits as they were written, for `repr` and for tools.
        self.options = options
        self._compiled = compiled
        self.guards = any(compiled.get(name) for name in ("rate_limit", "idle_timeout", "max_age"))
        self._capped = not CAPS.keys().isdisjoint(compiled)

    def __or__(self, inner: Limits) -> Limits:
        """The combination, in which `inner` wins. An outer cap counts all routes that share it together."""
        both = Limits()
        both._set({**self.options, **inner.options}, {**self._compiled, **inner._compiled})
        return both

    def __repr__(self) -> str:
        return f"Limits({', '.join(f'{name}={value!r}' for name, value in self.options.items())})"

    def get(self, name: str) -> Any:
        """The compiled limit; None if there is none."""
        return self._compiled.get(name)

    def compiled(self, name: str, default: Any) -> Any:
        """The compiled limit, where None means that there is none; `default` if nobody says anything."""
        return self._compiled.get(name, default)

    def apply(self, websocket: WebSocket, session: Guarded | None) -> AbstractContextManager[None]:
        """Apply the limits on messages and time to a new connection.

        Returns a context manager that counts the connection while it is open.
        """
        settings = conf.project
        if settings is None:
            settings = conf.values()
        compiled = self._compiled
        websocket._limit_messages(
            compiled["max_message_size"]
            if "max_message_size" in compiled
            else settings.get("MAX_MESSAGE_SIZE", MAX_MESSAGE_SIZE)
        )
        if "deflate" in compiled or "DEFLATE" in settings:
            self._compress(websocket)
        if self.guards and session is not None:
            session.guard = Guard(
                websocket,
                session.spawn,
                rates=self.get("rate_limit") or (),
                idle=self.get("idle_timeout"),
                max_age=self.get("max_age"),
            )
        if self._capped or not CAP_SETTINGS.isdisjoint(settings):
            return ConnectionSlots(self, websocket.scope)
        return UNCOUNTED

    def _compress(self, websocket: WebSocket) -> None:
        """Ask a server that can compress messages to do so."""
        own = self._compiled.get("deflate")
        options = own if "deflate" in self._compiled else compile_deflate(conf.get("DEFLATE"))
        if options is not None and DEFLATE in (websocket.scope.get("extensions") or ()):
            websocket._deflate = {"options": options, "max_size": websocket.max_message_size}


def limits_of(scope: Scope) -> Limits:
    """The limits of the connection's route."""
    found = getattr(scope.get("route"), "limits", None)
    return found if isinstance(found, Limits) else Limits()


UNCOUNTED = nullcontext()


class ConnectionSlots(AbstractContextManager[None]):
    """Counts a connection against every cap that applies to it; HTTPException if one is reached."""

    __slots__ = ("_limits", "_scope", "_taken")

    def __init__(self, limits: Limits, scope: Scope) -> None:
        self._limits = limits
        self._scope = scope
        self._taken: list[tuple[Cap, Any]] = []

    def __enter__(self) -> None:
        settings = conf.values()
        for name, of in CAPS.items():
            own: Cap | None = self._limits.get(name)
            if own is not None and own.maximum is not None:
                self._take(own, own.maximum, of)
            everywhere = settings.get(SETTINGS[name])
            if everywhere is not None:
                self._take(PROCESS_CAPS[name], everywhere, of)

    def _take(self, cap: Cap, maximum: int, of: str) -> None:
        key = owner(self._scope, of)
        if key is None:
            return
        if cap.counts.get(key, 0) >= maximum:
            self.__exit__()
            logger.warning(REFUSAL, CAP_OWNERS[of], maximum)
            if of == "all":
                raise refusal(REASONS[of], 503, "Too many connections", {"Retry-After": retry_after()})
            raise refusal(REASONS[of], 429, "Too many connections")
        cap.counts[key] = cap.counts.get(key, 0) + 1
        self._taken.append((cap, key))

    def __exit__(self, *_: object) -> None:
        while self._taken:
            cap, key = self._taken.pop()
            cap.counts[key] -= 1
            if not cap.counts[key]:
                del cap.counts[key]


def process_is_full() -> bool:
    """Whether the process has all the connections that it may have."""
    name = "max_connections"
    maximum = conf.values().get(SETTINGS[name])
    return maximum is not None and PROCESS_CAPS[name].counts.get("all", 0) >= maximum


def log_full() -> None:
    """Log that a handshake is refused because of that."""
    logger.warning(REFUSAL, CAP_OWNERS["all"], conf.get("MAX_CONNECTIONS"))


REFUSAL = "WebSocket refused: %s may have at most %d open connections"
CAP_OWNERS = {"all": "all clients together", "user": "one user", "address": "one address"}


class Cap:
    """The maximum number of connections per owner, and their present numbers."""

    __slots__ = ("counts", "maximum")

    def __init__(self, maximum: int | None) -> None:
        self.maximum = maximum
        self.counts: dict[Any, int] = {}


PROCESS_CAPS = {name: Cap(None) for name in CAPS}


def owner(scope: Scope, of: str) -> Any:
    """The owner that a connection counts for; None if there is none, for example for an anonymous user."""
    if of == "address":
        client = scope.get("client")
        return counted(client[0]) if client else None
    if of == "user":
        user = scope.get("user")
        if not getattr(user, "is_authenticated", False):
            return None
        from fastws_compat.logins.tenants import owner_key

        return owner_key(user)
    return of


# How limits are written


UNITS = {"": 1, "k": 1000, "m": 1000**2, "ki": 1024, "mi": 1024**2}
SECONDS = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "hour": 3600, "d": 86400, "day": 86400}
RATE = r"(\d+(?:\.\d+)?)\s*(?:(k|m|ki|mi|)(b))?\s*/\s*(\d+)?\s*([a-z]+)"


def compile_option(name: str, value: Any) -> Any:
    """The value of a limit as connections use it; DeclarationError for an invalid one."""
    if name in CAPS:
        return Cap(value if value is None else _checked(name, value, int, 0))
    if name == "deflate":
        return compile_deflate(value)
    if name == "on_invalid":
        return _choice(name, value, "answer", "close", "raise")
    return None if value is None else _compile_number(name, value)


def _compile_number(name: str, value: Any) -> Any:
    if name == "rate_limit":
        texts = value if isinstance(value, list | tuple) else str(value).split(",")
        return tuple(map(parse_rate, texts))
    if name == "max_invalid":
        return _checked(name, value, int, 0)
    return _checked(name, value, int if name == "max_message_size" else (int, float), 1e-9)


def _checked(name: str, value: Any, kind: Any, least: float) -> Any:
    most = math.inf if kind is int else TIMEOUT_MAX
    if not isinstance(value, kind) or isinstance(value, bool) or not least <= value <= most:
        what = "a whole number" if kind is int else "a number of seconds"
        raise DeclarationError(f"{name}={value!r} is not a valid limit: use {what}, or None for no limit.")
    return value


def _choice(name: str, value: Any, *choices: str) -> Any:
    if value not in choices:
        raise DeclarationError(f"{name}={value!r} is unknown: write one of {', '.join(map(repr, choices))}.")
    return value


def parse_rate(text: str) -> Rate:
    """The rate for "20/s", "100/m" or "1/10s" (messages), or for "64KiB/s" or "1MB/10s" (bytes)."""
    match = re.fullmatch(RATE, text.strip(), re.IGNORECASE) if isinstance(text, str) else None
    unit = SECONDS.get(match[5].lower().removesuffix("s") or "s") if match else None
    if match is None or unit is None:
        raise DeclarationError(
            f"rate_limit={text!r} is not a rate: write '20/s' or '100/m' for messages, '64KiB/s' for bytes."
        )
    amount = float(match[1]) * UNITS[(match[2] or "").lower()]
    seconds = unit * int(match[4] or 1)
    if amount < 1 or not 0 < seconds <= TIMEOUT_MAX:
        raise DeclarationError(
            f"rate_limit={text!r} allows no message: write one message or more and a time, as in '1/10s'."
        )
    return Rate(amount, seconds, of_bytes=match[3] is not None)
