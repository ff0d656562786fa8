"""Many sessions read at once, each as its own `load` would read it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from typing import Any

from django.contrib.sessions.backends.base import SessionBase

from fastws_compat.logger import in_words
from fastws_compat.logins import parts
from fastws_compat.logins.signatures import decoder

Read = Callable[[Sequence[Any]], None]

# A key of no session, which every cache accepts.
PROBE = "fastws_compat"


class CacheFails(OSError):
    """The cache of the sessions fails, so nobody can say who is logged in."""


def is_loaded(session: Any) -> bool:
    """Whether a session has been read, so that using it needs no query and no thread."""
    return hasattr(session, "_session_cache")


def reads_many(session: Any) -> bool:
    """Whether the session's engine reads many sessions at once; if not, `load` reads each one."""
    return _reader_of(session) is not None


def is_in_database(store: Any) -> bool:
    """Whether an engine keeps its sessions in the table of its model, and reads them as Django's do."""
    return _reader(store) in (_from_database, _from_both) and has_plain_names(store)


def is_in_cache(store: Any) -> bool:
    """Whether an engine keeps its sessions in the cache only, as Django's does."""
    return _reader(store) is _from_cache and has_plain_names(store)


def load(sessions: Iterable[Any]) -> None:
    """Read those sessions of one engine that are not loaded and can be read together with others.

    The rest stay as they are: sessions of an engine with a `load` of the project's own, and keys that not
    every database or cache accepts, because one such key would make the query for all of them fail.
    """
    together = [each for each in sessions if not is_loaded(each) and _is_plain(each.session_key)]
    read = _reader_of(together[0]) if together else None
    if read is not None:
        read(together)


def load_alone(session: Any) -> None:
    """Read a session that is in a cache as its own `load` does; raises CacheFails if the cache fails.

    There, Django's engines find nobody, or raise what the cache has raised.
    """
    read = _reader_of(session)
    if is_loaded(session) or read not in (_from_cache, _from_both):
        return
    try:
        session._get_session()
    except Exception:
        _check_cache(session)
        raise
    if session.session_key is None and read is _from_cache:
        _check_cache(session)


def _check_cache(session: Any) -> None:
    """Raise CacheFails if the cache of a session fails for every key, and not only for some."""
    try:
        session._cache.get(PROBE)
    except Exception as exc:  # as in Django: caches raise exceptions of their own
        raise CacheFails(in_words(exc)) from None


def _is_plain(key: str) -> bool:
    return key.isascii() and key.isprintable()


def _reader_of(session: Any) -> Read | None:
    store: Any = type(session)
    return _reader(store)


@functools.lru_cache(maxsize=16)
def _reader(store: Any) -> Read | None:
    """How sessions of this class are read together, if it has the `load` of one of Django's engines."""
    from django.contrib.sessions.backends import cache, cached_db, db, signed_cookies

    if store._get_session is not vars(SessionBase)["_get_session"]:
        return None
    readers: list[tuple[Any, Read]] = [
        (cache.SessionStore, _from_cache),
        (signed_cookies.SessionStore, _from_keys),
    ]
    if _row_of(store) is _row_of(db.SessionStore):
        readers += [(db.SessionStore, _from_database), (cached_db.SessionStore, _from_both)]
    return next((read for engine, read in readers if store.load is engine.load), None)


def _row_of(store: Any) -> Any:
    return getattr(store, "_get_session_from_db", None)


def _from_keys(sessions: Sequence[Any]) -> None:
    """The contents are in the key, and reading it is no I/O."""
    for session in sessions:
        _set(session, session.load())


def _from_database(sessions: Sequence[Any]) -> None:
    rows, decode = dict(_rows(sessions, "session_data")), decoder(sessions[0])
    for session in sessions:
        text = rows.get(session.session_key)
        _set(session, None if text is None else decode(text))


def _from_cache(sessions: Sequence[Any]) -> None:
    """If the cache fails for some of the keys, each session is left to its own `load`."""
    cached = _cached(sessions)
    if cached is not None:
        _set_all(sessions, cached)


def _from_both(sessions: Sequence[Any]) -> None:
    """From the cache, and from the database what is not there; that is put into the cache, as by `load`."""
    cached = _cached(sessions)
    if cached is None:
        return
    missing = {session.session_key: session for session in sessions if cached.get(session.cache_key) is None}
    rows = _rows(list(missing.values()), "session_data", "expire_date") if missing else ()
    decode = decoder(sessions[0])
    for key, text, expiry in rows:
        session = missing[key]
        data = cached[session.cache_key] = decode(text)
        session._cache.set(session.cache_key, data, session.get_expiry_age(expiry=expiry))
    _set_all(sessions, cached)


def _cached(sessions: Sequence[Any]) -> dict[str, Any] | None:
    """What the cache has, by its keys; None if it fails for some of them, and CacheFails if for any."""
    try:
        found: dict[str, Any] = sessions[0]._cache.get_many({session.cache_key for session in sessions})
    except Exception:
        _check_cache(sessions[0])
        return None
    return found


def _rows(sessions: Sequence[Any], *fields: str) -> Iterable[tuple[Any, ...]]:
    """The keys and some fields of the sessions that the database has."""
    from django.utils import timezone

    keys = {session.session_key for session in sessions}
    valid = sessions[0].model.objects.filter(expire_date__gt=timezone.now())
    return [
        row
        for part in parts.having(valid, "session_key", keys)
        for row in part.values_list("session_key", *fields)
        if row[0] in keys
    ]


def _set_all(sessions: Sequence[Any], cached: dict[str, Any]) -> None:
    """Give each session its contents; sessions of one key share nothing."""
    given: set[str] = set()
    for session in sessions:
        key = session.cache_key
        _set(session, deepcopy(cached.get(key)) if key in given else cached.get(key))
        given.add(key)


def _set(session: Any, data: dict[str, Any] | None) -> None:
    """Leave the session as its `load` would: one that does not exist has no key any more."""
    if data is None:
        session._session_key = None
    session._session_cache = {} if data is None else data
    session.accessed = True


def contents_of(session: Any) -> Any:
    """What has the contents of a loaded session; itself, if it looks them up in a way of its own."""
    return session._session_cache if has_plain_names(type(session)) else session


def has_plain_names(store: Any) -> bool:
    """Whether `get` of this class looks a name up in the contents as they were read."""
    own: Any = SessionBase
    return store.get is own.get and store._session is own._session
