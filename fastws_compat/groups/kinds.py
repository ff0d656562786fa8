"""Kinds of groups: what groups keep, by pattern of the name: a history, last values, and presence.

Kinds are declared in `FASTWS["GROUPS"]`, because a process that only sends never imports the sockets.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from math import inf
from typing import Any, Literal

from fastws_compat import conf
from fastws_compat.exceptions import GroupKindError

# The maximum number of names whose kind is remembered.
MAX_NAMES = 10_000


@dataclass(frozen=True, slots=True)
class History:
    """The limits of a history: the number of messages, their age in seconds, and the bytes of one message."""

    count: int = 100
    age: float = 300
    bytes: int = 65_536
    # What happens to a message that the store refuses: it is delivered without being kept, or not at all.
    on_failure: Literal["deliver", "raise"] = "deliver"


@dataclass(frozen=True, slots=True)
class Presence:
    """The options of presence."""

    # Seconds within which a user whose socket has ended may reconnect without being reported as having left.
    linger: float = 10
    # The number of people above which clients receive only the count.
    limit: int = 1_000


@dataclass(frozen=True, slots=True)
class State:
    """The limits of a state: the number of values, and their total bytes."""

    keys: int = 100
    bytes: int = 65_536


@dataclass(frozen=True, slots=True)
class Kind:
    """What the groups with names like `pattern` keep."""

    pattern: str
    history: History | None = None
    presence: Presence | None = None
    state: State | None = None

    def require(self, what: Literal["history", "presence", "state"]) -> None:
        """Raise GroupKindError unless the kind has it."""
        if getattr(self, what) is None:
            raise _missing(what, f"The kind {self.pattern!r}", self.pattern)


PARTS: dict[str, type[History | Presence | State]] = {
    "history": History,
    "presence": Presence,
    "state": State,
}

# By pattern, in order; the settings come first.
declared: dict[str, Kind] = {}
_from_settings: dict[str, Kind] = {}
_found: dict[str, Kind | None] = {}
# The dict of settings that `_from_settings` was read from.
_source: Any = declared


def declare(pattern: str, **parts: Any) -> None:
    """Declare a kind in code: in tests, and in the `ready()` of an app. The settings take precedence.

    Raises GroupKindError for options that do not exist or have the wrong type.
    """
    declared[pattern] = parse(pattern, parts)
    _found.clear()


def kind_of(name: str) -> Kind | None:
    """The first kind whose pattern matches the name; None if the group keeps nothing."""
    if conf.project is not _source:
        _read_settings()
    try:
        return _found[name]
    except KeyError:
        return _find(name)


def kind_with(name: str, what: Literal["history", "presence", "state"]) -> Kind:
    """The kind of a group that must have this part; raises GroupKindError, which says what to declare."""
    kind = kind_of(name)
    if kind is None:
        raise _missing(what, f"The group {name!r} has no kind, and so", name)
    kind.require(what)
    return kind


def _missing(what: str, subject: str, pattern: str) -> GroupKindError:
    return GroupKindError(
        f'{subject} has no {what}: declare it as FASTWS["GROUPS"] = {{"{pattern}": {{"{what}": True}}}}.'
    )


def _find(name: str) -> Kind | None:
    if len(_found) >= MAX_NAMES:
        _found.clear()
    kinds = (*_from_settings.values(), *declared.values())
    found = _found[name] = next((kind for kind in kinds if fnmatchcase(name, kind.pattern)), None)
    return found


def _read_settings() -> None:
    global _from_settings, _source
    patterns = conf.get("GROUPS")
    _from_settings = parse_all(patterns)
    _found.clear()
    _source = conf.project


def parse_all(patterns: Any) -> dict[str, Kind]:
    """The kinds in a value of `FASTWS["GROUPS"]`; raises GroupKindError for one that is not valid."""
    if not isinstance(patterns, Mapping):
        raise GroupKindError(f'FASTWS["GROUPS"] must be a dict of patterns, not a {type(patterns).__name__}.')
    return {pattern: parse(pattern, parts) for pattern, parts in patterns.items()}


def parse(pattern: Any, parts: Any) -> Kind:
    """The kind for one pattern; raises GroupKindError if it is not valid."""
    where = f'FASTWS["GROUPS"][{pattern!r}]'
    if not isinstance(pattern, str) or not isinstance(parts, Mapping):
        raise GroupKindError(f'{where} needs a str as its key and a dict as its value: {{"history": True}}.')
    _refuse_unknown(parts, PARTS, where)
    found = {what: _part(PARTS[what], value, f"{where}[{what!r}]") for what, value in parts.items()}
    if found.get("state") and not found.get("history"):
        # Values are changed by entries of the history.
        found["history"] = History()
    return Kind(pattern, **found)


def _part(part: type[Any], value: Any, where: str) -> Any:
    if value is True:
        return part()
    if value is False or value is None:
        return None
    if not isinstance(value, Mapping):
        raise GroupKindError(f"{where} must be True, False or a dict of options, not {value!r}.")
    _refuse_unknown(value, [field.name for field in fields(part)], where)
    for name, option in value.items():
        fits, wanted = RULES[name]
        if not fits(option):
            raise GroupKindError(f"{where}[{name!r}] must be {wanted}, not {option!r}.")
    return part(**value)


def _refuse_unknown(given: Mapping[Any, Any], known: Collection[str], where: str) -> None:
    for name in given:
        if name not in known:
            raise GroupKindError(f"{where} has an unknown key, {name!r}. The keys are {', '.join(known)}.")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < inf


# The value that each option must have.
RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "count": (_is_count, "a positive integer"),
    "age": (lambda value: _is_number(value) and value > 0, "a positive number of seconds"),
    "bytes": (_is_count, "a positive integer"),
    "on_failure": (lambda value: value in ("deliver", "raise"), "'deliver' or 'raise'"),
    "linger": (_is_number, "a number of seconds (0 or more)"),
    "limit": (lambda value: value == 0 or _is_count(value), "an integer (0 or more)"),
    "keys": (_is_count, "a positive integer"),
}
