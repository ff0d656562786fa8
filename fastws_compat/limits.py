"""What a route may be sent, how long its connections may live, and how many there may be."""

from __future__ import annotations

import re
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, Protocol, TypedDict

from fastws_compat import conf
from fastws_compat.connections.guard import Guard, Rate
from fastws_compat.exceptions import DeclarationError, HTTPException
from fastws_compat.logger import logger
from fastws_compat.types import Scope
from fastws_compat.websockets import WebSocket

MAX_MESSAGE_SIZE = conf.DEFAULTS["MAX_MESSAGE_SIZE"]


class LimitOptions(TypedDict, total=False):
    """Limits of an application, a router or a route; the innermost that says something wins, None is none."""

    # Bytes of one message; more closes with 1009.
    max_message_size: int | None
    # "20/s", "100/m", "64KiB/s", also several; more closes with 4429.
    rate_limit: str | Sequence[str] | None
    # Seconds without a message in either direction, and seconds in all; then 4408.
    idle_timeout: float | None
    max_age: float | None
    # Connections at a time; more are refused: 503, and 429 for those of one user or address.
    max_connections: int | None
    max_connections_per_user: int | None
    max_connections_per_address: int | None
    # What becomes of a message that does not fit the types of a TypedWebSocket: "answer" (the default),
    # "close" or "raise"; and how many in a row are accepted.
    on_invalid: Literal["answer", "close", "raise"]
    max_invalid: int | None


class Guarded(Protocol):
    """What a session is asked for."""

    guard: Guard | None

    def spawn(self, work: Coroutine[Any, Any, None]) -> None: ...


OPTIONS = LimitOptions.__annotations__.keys()
CAPS = {
    "max_connections": "all",
    "max_connections_per_user": "user",
    "max_connections_per_address": "address",
}
# The same as settings, which hold for the process.
SETTINGS = {name: name.upper() for name in CAPS}
CAP_SETTINGS = frozenset(SETTINGS.values())


def split(options: Mapping[str, Any]) -> tuple[LimitOptions, dict[str, Any]]:
    """The limits among the options, and the others."""
    limits: Any = {name: value for name, value in options.items() if name in OPTIONS}
    return limits, {name: value for name, value in options.items() if name not in OPTIONS}


class Limits:
    """The limits of one place where they are declared; `|` lays inner ones over outer ones."""

    __slots__ = ("_capped", "_compiled", "guards", "options")

    def __init__(self, options: LimitOptions | Mapping[str, Any] = {}) -> None:  # noqa: B006
        for unknown in sorted(options.keys() - OPTIONS):
            raise TypeError(f"There is no limit {unknown!r}, only {', '.join(OPTIONS)}.")
        self._set(dict(options), {name: compile_option(name, value) for name, value in options.items()})

    def _set(self, options: dict[str, Any], compiled: dict[str, Any]) -> None:
        # As they were written, for people who ask.
        self.options = options
        self._compiled = compiled
        self.guards = any(compiled.get(name) for name in ("rate_limit", "idle_timeout", "max_age"))
        self._capped = not CAPS.keys().isdisjoint(compiled)

    def __or__(self, inner: Limits) -> Limits:
        """Both, where `inner` wins. Caps that came from outside go on counting for all who share them."""
        both = Limits()
        both._set({**self.options, **inner.options}, {**self._compiled, **inner._compiled})
        return both

    def __repr__(self) -> str:
        return f"Limits({', '.join(f'{name}={value!r}' for name, value in self.options.items())})"

    def get(self, name: str) -> Any:
        """The compiled limit; None without one."""
        return self._compiled.get(name)

    def compiled(self, name: str, default: Any) -> Any:
        """The compiled limit, where None means that there is none; `default` if nobody says anything."""
        return self._compiled.get(name, default)

    def apply(self, websocket: WebSocket, session: Guarded | None) -> AbstractContextManager[None]:
        """Hold a new connection to the limits for its messages and its time.

        Gives its place among those that may be open, to be entered as a context.
        """
        settings, compiled = conf.values(), self._compiled
        websocket._limit_messages(
            compiled["max_message_size"]
            if "max_message_size" in compiled
            else settings.get("MAX_MESSAGE_SIZE", MAX_MESSAGE_SIZE)
        )
        if self.guards and session is not None:
            session.guard = Guard(
                websocket,
                session.spawn,
                rates=self.get("rate_limit") or (),
                idle=self.get("idle_timeout"),
                max_age=self.get("max_age"),
            )
        if self._capped or not CAP_SETTINGS.isdisjoint(settings):
            return Seats(self, websocket.scope)
        return UNCOUNTED


def limits_of(scope: Scope) -> Limits:
    """The limits of the route that a connection has taken."""
    found = getattr(scope.get("route"), "limits", None)
    return found if isinstance(found, Limits) else Limits()


UNCOUNTED = nullcontext()


class Seats(AbstractContextManager[None]):
    """Counts a connection against every cap that it falls under; HTTPException if one is reached."""

    __slots__ = ("_limits", "_scope", "_taken")

    def __init__(self, limits: Limits, scope: Scope) -> None:
        self._limits = limits
        self._scope = scope
        self._taken: list[tuple[Cap, Any]] = []

    def __enter__(self) -> None:
        settings = conf.values()
        for name, of in CAPS.items():
            own: Cap | None = self._limits.get(name)
            if own is not None and own.most is not None:
                self._take(own, own.most, of)
            everywhere = settings.get(SETTINGS[name])
            if everywhere is not None:
                self._take(PROCESS[name], everywhere, of)

    def _take(self, cap: Cap, most: int, of: str) -> None:
        key = owner(self._scope, of)
        if key is None:
            return
        if cap.counts.get(key, 0) >= most:
            self.__exit__()
            logger.warning("WebSocket refused: %d open connections is the most of %s", most, MOST_OF[of])
            raise HTTPException(503 if of == "all" else 429, "Too many connections")
        cap.counts[key] = cap.counts.get(key, 0) + 1
        self._taken.append((cap, key))

    def __exit__(self, *_: object) -> None:
        while self._taken:
            cap, key = self._taken.pop()
            cap.counts[key] -= 1
            if not cap.counts[key]:
                del cap.counts[key]


MOST_OF = {"all": "all clients together", "user": "one user", "address": "one address"}


class Cap:
    """How many connections there are of each owner, and may be."""

    __slots__ = ("counts", "most")

    def __init__(self, most: int | None) -> None:
        self.most = most
        self.counts: dict[Any, int] = {}


PROCESS = {name: Cap(None) for name in CAPS}


def owner(scope: Scope, of: str) -> Any:
    """Whom a connection is counted for; None if it is nobody, as an anonymous user."""
    if of == "address":
        client = scope.get("client")
        return client[0] if client else None
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
    """The value of a limit as connections use it; DeclarationError for one that makes no sense."""
    if name in CAPS:
        return Cap(value if value is None else _checked(name, value, int, 0))
    if name == "on_invalid":
        return _choice(name, value, "answer", "close", "raise")
    if value is None:
        return None
    if name == "max_invalid":
        return _checked(name, value, int, 0)
    if name == "rate_limit":
        texts = value if isinstance(value, list | tuple) else str(value).split(",")
        return tuple(parse_rate(text) for text in texts)
    return _checked(name, value, int if name == "max_message_size" else (int, float), 1e-9)


def _checked(name: str, value: Any, kind: Any, least: float) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool) or not value >= least:
        what = "a whole number" if kind is int else "a number of seconds"
        raise DeclarationError(f"{name}={value!r} is no limit: give {what}, or None for no limit.")
    return value


def _choice(name: str, value: Any, *choices: str) -> Any:
    if value not in choices:
        raise DeclarationError(f"{name}={value!r} is unknown: write one of {', '.join(map(repr, choices))}.")
    return value


def parse_rate(text: str) -> Rate:
    """ "20/s", "100/m", "1000/h" messages; "64KiB/s", "1MB/10s" bytes."""
    match = re.fullmatch(RATE, text.strip(), re.IGNORECASE) if isinstance(text, str) else None
    seconds = SECONDS.get(match[5].lower().removesuffix("s") or "s") if match else None
    if match is None or seconds is None or not float(match[1]):
        raise DeclarationError(
            f"rate_limit={text!r} is no rate: write '20/s', '100/m' for messages, '64KiB/s' for bytes."
        )
    amount = float(match[1]) * UNITS[(match[2] or "").lower()]
    return Rate(amount, seconds * int(match[4] or 1), of_bytes=match[3] is not None)
