"""Checks of FASTWS, key by key, and of SESSION_COOKIE_SAMESITE."""

from __future__ import annotations

from collections.abc import Callable
from threading import TIMEOUT_MAX
from typing import Any

from django.conf import settings
from django.core.checks import Error, Warning, register
from django.utils.module_loading import import_string

from fastws_compat import conf
from fastws_compat.checks.messages import TAG, Messages, message
from fastws_compat.deflate import DEFAULTS as DEFLATE_OPTIONS
from fastws_compat.deflate import compile_deflate
from fastws_compat.exceptions import DeclarationError
from fastws_compat.logger import logger

Rule = tuple[Callable[[Any], bool], str]

# Keys whose value may contain a secret: the token itself, and the password of a Redis URL.
SECRETS = {"METRICS_TOKEN", "STORE"}
# Maximum number of characters of an invalid value that a message shows.
MAX_SHOWN = 200


@register(TAG)
def check_same_site(**kwargs: Any) -> Messages:
    if settings.SESSION_COOKIE_SAMESITE not in (None, False, "None", "none"):
        return []
    return message(
        Warning,
        "W006",
        f"SESSION_COOKIE_SAMESITE is {settings.SESSION_COOKIE_SAMESITE!r}: browsers send the session cookie "
        "with handshakes from other sites, which only the origin check rejects.",
        'Set it to "Lax" or "Strict".',
    )


@register(TAG)
def check_docs_access(**kwargs: Any) -> Messages:
    if settings.DEBUG or conf.get("DOCS_ACCESS") != "public":
        return []
    return message(
        Warning,
        "W015",
        "FASTWS['DOCS_ACCESS'] is 'public', so everybody may see the documentation of the sockets.",
        "Set it to 'staff', or silence this check if the documentation is meant for everybody.",
    )


@register(TAG)
def check_settings(**kwargs: Any) -> Messages:
    values = getattr(settings, "FASTWS", {})
    if not isinstance(values, dict):
        return message(
            Error,
            "E006",
            f"The setting FASTWS must be a dict but is a {type(values).__name__}, and is ignored.",
            'Write a dict, for example FASTWS = {"THREADS": 8}.',
        )
    return [found for name, value in values.items() for found in check_setting(name, value)]


def log_errors() -> None:
    """Log what `manage.py check` reports about FASTWS, because daphne and uvicorn run no checks."""
    for found in check_settings():
        if not found.is_silenced():
            logger.error("%s: %s %s", found.id, found.msg, found.hint)


@register(TAG)
def check_setting_names(**kwargs: Any) -> Messages:
    """Find FASTWS under a name like FAST_WS, and its keys as settings of their own."""
    names = [
        name for name in dir(settings) if name != "FASTWS" and name.replace("_", "").startswith("FASTWS")
    ]
    return [found for name in names for found in _misnamed(name)]


def _misnamed(name: str) -> Messages:
    key = name.removeprefix("FASTWS_")
    if key in conf.DEFAULTS:
        hint = f"Write FASTWS = {{{key!r}: ...}}."
    elif isinstance(getattr(settings, name), dict):
        hint = "Rename it to FASTWS."
    else:
        return []
    return message(Warning, "W023", f"The setting {name} has no effect: the library reads FASTWS only.", hint)


def check_setting(name: Any, value: Any) -> Messages:
    if name not in conf.DEFAULTS:
        import difflib

        near = difflib.get_close_matches(str(name).upper(), conf.DEFAULTS, n=1)
        return message(
            Error,
            "E007",
            f"FASTWS has an unknown key, {name!r}.",
            f"Did you mean {near[0]!r}?" if near else f"The keys are {', '.join(sorted(conf.DEFAULTS))}.",
        )
    fits, wanted = RULES.get(name) or _like(conf.DEFAULTS[name])
    if fits(value):
        return []
    return message(Error, "E008", f"FASTWS[{name!r}] has {_shown(name, value)}.", f"Set it to {wanted}.")


def _shown(name: str, value: Any) -> str:
    """Describe an invalid value, but print no secret: checks run in builds, whose logs many can read."""
    if name in SECRETS and value:
        return f"an invalid value of type {type(value).__name__}"
    try:
        text = repr(value)
    except Exception:  # an int with more digits than Python prints, or a class of the project
        text = object.__repr__(value)
    return f"the invalid value {text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + '...'}"


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_seconds(value: Any) -> bool:
    """Threads cannot wait longer than `TIMEOUT_MAX`, and an event loop fails with an `int` beyond a float."""
    return _is_number(value) and 0 <= value <= TIMEOUT_MAX


def _is_positive(value: Any) -> bool:
    return _is_seconds(value) and value > 0


def _is_share(value: Any) -> bool:
    return _is_bool(value) or (_is_number(value) and 0 <= value <= 1)


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


def _is_store(value: Any) -> bool:
    return value in ("auto", "memory") or (_is_dict(value) and all(map(_are_hosts, value.values())))


def _are_hosts(value: Any) -> bool:
    return _is_callable_name(value) if isinstance(value, str) else isinstance(value, list) and bool(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and _is_number(value) and value > 0


def _are_strings(value: Any) -> bool:
    return isinstance(value, list | tuple | set | frozenset) and all(isinstance(item, str) for item in value)


def _are_origins(value: Any) -> bool:
    """Use the rules of the origin check, so that no value passes here that has no effect there."""
    from fastws_compat.origins import is_pattern, listed  # imports most of the library

    texts = listed(value)
    return (
        isinstance(value, list | tuple | set | frozenset)
        and len(texts) == len(value)
        and all(map(is_pattern, texts))
    )


def _is_callable_name(value: Any) -> bool:
    try:
        return callable(import_string(value))
    except Exception:  # also what the module raises: the check has to name the setting
        return False


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == "/"


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_deflate(value: Any) -> bool:
    try:
        compile_deflate(value)
    except DeclarationError:
        return False
    return True


def _or_none(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


def _one_of(*choices: str) -> Rule:
    return (lambda value: value in choices), " or ".join(map(repr, choices))


def _like(default: Any) -> Rule:
    """The rule for a key that is not in RULES: the type of its default."""
    return (
        lambda value: isinstance(value, type(default))
    ), f"a {type(default).__name__}, for example {default!r}"


BOOLEAN: Rule = (_is_bool, "True or False")
BOOLEAN_OR_NONE: Rule = (_or_none(_is_bool), "True, False or None")
COUNT: Rule = (_is_count, "a positive integer")
COUNT_OR_NONE: Rule = (_or_none(_is_count), "a positive integer or None")
SECONDS: Rule = (_is_seconds, "a number of seconds (0 or more)")
POSITIVE_SECONDS: Rule = (_is_positive, "a positive number of seconds")
SECONDS_OR_NONE: Rule = (_or_none(_is_seconds), "a number of seconds (0 or more) or None")
ORIGINS: Rule = (
    _are_origins,
    'a list of origins without path or trailing "/", for example "https://example.com", '
    '"https://*.example.com:8443", "capacitor://localhost", "file://" or "null"; "*" allows every origin',
)

# The value that each key must have.
RULES: dict[str, Rule] = {
    "ACCESS_LOG": BOOLEAN,
    "ALLOWED_ORIGINS": ORIGINS,
    "BEAT_SECONDS": POSITIVE_SECONDS,
    "CHECK_SECONDS": POSITIVE_SECONDS,
    "CLEANUP_TIMEOUT": (_or_none(_is_positive), "a positive number of seconds or None"),
    "DAPHNE": _one_of("complete", "stock"),
    "DAPHNE_ROOT_PATH_HEADER": BOOLEAN,
    "DEFLATE": (_is_deflate, f"True, False or a dict of the options {', '.join(DEFLATE_OPTIONS)}"),
    "DISCONNECT_GRACE": SECONDS_OR_NONE,
    "DOCS_ACCESS": (
        lambda value: value in (None, "staff", "public") or _is_callable_name(value),
        "None, 'staff', 'public' or the dotted name of a function of the request that "
        "can be imported, for example 'mysite.access.may_see_docs'",
    ),
    "DRAIN_DELAY": SECONDS,
    "DRAIN_SPREAD": SECONDS,
    "GC_FREEZE": BOOLEAN,
    "GROUPS": (_is_dict, 'a dict of patterns, for example {"room.*": {"history": True}}'),
    "HANDSHAKE_TIMEOUT": SECONDS_OR_NONE,
    "HEALTH": (_or_none(_is_path), "a path that begins and ends with a slash, for example '/-/', or None"),
    "LAYER_TIMEOUT": POSITIVE_SECONDS,
    "LOGIN_FIELDS": (_or_none(_are_strings), "a list of field names of the user model, or None"),
    "LOOP": _one_of("auto", "asyncio"),
    "MAX_CONNECTIONS": COUNT_OR_NONE,
    "MAX_CONNECTIONS_PER_ADDRESS": COUNT_OR_NONE,
    "MAX_CONNECTIONS_PER_USER": COUNT_OR_NONE,
    "MAX_HANDSHAKES": (
        lambda value: value in ("auto", None) or _is_count(value),
        "a positive integer, 'auto' or None",
    ),
    "MAX_MESSAGE_SIZE": COUNT_OR_NONE,
    "METRICS_ROUTES": COUNT,
    "METRICS_SIZES": BOOLEAN,
    "METRICS_TOKEN": (_or_none(_is_text), "a non-empty string or None"),
    "OPERATIONS_ADDRESS": _one_of("mask", "full", "none"),
    "OPERATIONS_ROWS": COUNT,
    "OPERATIONS_TAP": BOOLEAN_OR_NONE,
    "OPERATIONS_TIMEOUT": POSITIVE_SECONDS,
    "ORIGIN_REQUIRED": BOOLEAN,
    "PRESENCE_TTL": POSITIVE_SECONDS,
    "RECONNECT_SPREAD": SECONDS,
    "REVALIDATE_SECONDS": SECONDS,
    "RING_BYTES": COUNT,
    "SHUTDOWN_GRACE": SECONDS,
    "SLOW_CONSUMER": _one_of("close", "drop_oldest"),
    "SLOW_CONSUMER_QUEUE": COUNT,
    "STORE": (
        _is_store,
        '"auto", "memory" or a dict by layer alias, {"default": ["redis://localhost:6379/1"]}',
    ),
    "STORE_DURABLE": BOOLEAN,
    "TENANT": (
        _or_none(_is_callable_name),
        "the dotted name of a callable that can be imported, for example 'shop.tenants.current', or None",
    ),
    "THREADS": COUNT,
    "TRACE_GROUP_NAMES": BOOLEAN,
    "TRACE_MESSAGES": (_is_share, "True, False or a ratio from 0 to 1"),
    "TRACE_USER": BOOLEAN,
}
