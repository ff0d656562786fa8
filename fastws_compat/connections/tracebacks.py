"""Removes confidential data from exceptions before they are logged.

Error trackers record the local variables of every frame. In this library's frames, these are scopes, messages
and arguments, which contain cookies, tokens and query strings. Therefore its frames are removed from a
traceback before it is logged, and so are the frames that run a function for it and hold its arguments.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, TypeVar

from fastws_compat.exceptions import ValidationException

OWN = __name__.partition(".")[0]
# Packages that run functions for others. Their frames are removed where they run one for this library.
RUNNERS = frozenset({"anyio", "asgiref", "asyncio", "concurrent", "contextlib", "contextvars", "threading"})
# Groups that are nested deeper are logged as one group: what formats them calls itself for each level, and
# Python prints no more levels than these.
MAX_DEPTH = 10

ExceptionT = TypeVar("ExceptionT", bound=BaseException)

# An exception may be a frozen dataclass, which refuses an assignment to its attributes.
_set_cause: Any = BaseException.__dict__["__cause__"].__set__
_set_context: Any = BaseException.__dict__["__context__"].__set__


def for_log(exc: ExceptionT) -> ExceptionT:
    """The exception itself, without the library's frames in its traceback and in those of its causes.

    A group that is nested too deeply to be formatted is replaced by a flat one.
    """
    exc = flat(exc)
    place = _place_of(exc)
    for link in list(_chain(exc)):
        link.with_traceback(_without_own(link.__traceback__))
        _cut_off_inputs(link)
        _flatten_causes(link)
    if exc.__traceback__ is None and place is not None:
        with suppress(AttributeError):  # a frozen dataclass has no notes
            exc.add_note(place)
    return exc


def flat(exc: ExceptionT) -> ExceptionT:
    """The exception itself, or a group of all exceptions in it if it is nested more than `MAX_DEPTH` deep."""
    if not isinstance(exc, BaseExceptionGroup) or not _is_deep(exc):
        return exc
    group: Any = BaseExceptionGroup(exc.message, list(leaves(exc)))
    _set_cause(group, exc.__cause__)
    _set_context(group, exc.__context__)
    group.__suppress_context__ = exc.__suppress_context__
    return group.with_traceback(exc.__traceback__)  # type: ignore[no-any-return]


def _is_deep(exc: BaseExceptionGroup[Any]) -> bool:
    level: list[BaseExceptionGroup[Any]] = [exc]
    for _ in range(MAX_DEPTH):
        inner = {id(each): each for group in level for each in group.exceptions}
        level = [each for each in inner.values() if isinstance(each, BaseExceptionGroup)]
    return bool(level)


def leaves(exc: BaseException) -> Iterator[BaseException]:
    """The exception itself, or those in a group and in the groups inside it, each only once."""
    waiting, seen = [exc], set[int]()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, BaseExceptionGroup):
            waiting += reversed(each.exceptions)
        else:
            yield each


def as_text(exc: BaseException) -> str:
    """The traceback as Python prints it, without local variables."""
    return "".join(traceback.format_exception(exc)).rstrip()


def bare(exc: ExceptionT) -> ExceptionT:
    """The exception itself, without frames, cause and context."""
    _set_cause(exc, None)
    _set_context(exc, None)
    return exc.with_traceback(None)


def _chain(exc: BaseException) -> Iterator[BaseException]:
    """The exception, its causes and contexts, and the members of groups, each only once."""
    waiting: list[BaseException | None] = [exc]
    seen: set[int] = set()
    while waiting:
        link = waiting.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        waiting += [link.__cause__, link.__context__]
        if isinstance(link, BaseExceptionGroup):
            waiting += link.exceptions


def _without_own(tb: TracebackType | None) -> TracebackType | None:
    kept = list(_foreign(tb))
    following = None
    for item in reversed(kept):
        following = TracebackType(following, item.tb_frame, item.tb_lasti, item.tb_lineno)
    return following


def _foreign(tb: TracebackType | None) -> Iterator[TracebackType]:
    ours = True
    while tb is not None:
        package = _package(tb)
        ours = package == OWN or (ours and package in RUNNERS)
        if not ours:
            yield tb
        tb = tb.tb_next


def _package(tb: TracebackType) -> str:
    return str(tb.tb_frame.f_globals.get("__name__", "")).partition(".")[0]


def _cut_off_inputs(exc: BaseException) -> None:
    """Drop a validation error from the causes of an exception, because its text contains client data."""
    if isinstance(exc.__cause__, ValidationException):
        _set_cause(exc, None)
    if isinstance(exc.__context__, ValidationException):
        _set_context(exc, None)


def _flatten_causes(exc: BaseException) -> None:
    for cause, set_cause in ((exc.__cause__, _set_cause), (exc.__context__, _set_context)):
        if cause is not None and (short := flat(cause)) is not cause:
            set_cause(exc, short)


def _place_of(exc: BaseException) -> str | None:
    """The place where a traceback ends, as text."""
    frames = traceback.extract_tb(exc.__traceback__, limit=-1)
    return f"Raised in {frames[0].filename}, line {frames[0].lineno}, in {frames[0].name}" if frames else None
