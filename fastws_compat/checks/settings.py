"""The settings: those of the library one by one, and what a session cookie must not be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.checks import Error, Warning, register
from django.utils.module_loading import import_string

from fastws_compat import conf
from fastws_compat.checks.messages import TAG, Messages, message

Rule = tuple[Callable[[Any], bool], str]


@register(TAG)
def check_same_site(**kwargs: Any) -> Messages:
    if settings.SESSION_COOKIE_SAMESITE not in (None, False, "None", "none"):
        return []
    return message(
        Warning,
        "W006",
        f"SESSION_COOKIE_SAMESITE is {settings.SESSION_COOKIE_SAMESITE!r}: pages of other sites open sockets "
        "with the session cookie of their visitors, and the origin check alone stops them.",
        'Set it to "Lax" or "Strict".',
    )


@register(TAG)
def check_settings(**kwargs: Any) -> Messages:
    values = getattr(settings, "FASTWS", {})
    if not isinstance(values, dict):
        return message(
            Error,
            "E006",
            f"The setting FASTWS is a {type(values).__name__} and is ignored.",
            'Make it a dict, as FASTWS = {"THREADS": 8}.',
        )
    return [found for name, value in values.items() for found in check_setting(name, value)]


def check_setting(name: Any, value: Any) -> Messages:
    if name not in conf.DEFAULTS:
        import difflib

        near = difflib.get_close_matches(str(name).upper(), conf.DEFAULTS, n=1)
        return message(
            Error,
            "E007",
            f"FASTWS has the unknown key {name!r}.",
            f"Did you mean {near[0]!r}?" if near else f"Known keys: {', '.join(sorted(conf.DEFAULTS))}.",
        )
    fits, wanted = RULES.get(name) or _like(conf.DEFAULTS[name])
    if fits(value):
        return []
    return message(Error, "E008", f"FASTWS[{name!r}] is {value!r}.", f"It must be {wanted}.")


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_seconds(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and _is_number(value) and value > 0


def _are_texts(value: Any) -> bool:
    return isinstance(value, list | tuple | set | frozenset) and all(isinstance(item, str) for item in value)


def _are_origins(value: Any) -> bool:
    """Asks what the origin check asks, so that no value is accepted here that allows nothing there."""
    from fastws_compat.origins import is_pattern, listed  # with most of the library, which few commands need

    texts = listed(value)
    return (
        isinstance(value, list | tuple | set | frozenset)
        and len(texts) == len(value)
        and all(map(is_pattern, texts))
    )


def _is_callable_name(value: Any) -> bool:
    try:
        return callable(import_string(value))
    except (ImportError, AttributeError):
        return False


def _or_none(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


def _one_of(*choices: str) -> Rule:
    return (lambda value: value in choices), " or ".join(map(repr, choices))


def _like(default: Any) -> Rule:
    """The rule of a key that has none of its own: the type of its default."""
    return (lambda value: isinstance(value, type(default))), f"a {type(default).__name__}, as {default!r}"


BOOLEAN: Rule = (_is_bool, "True or False")
COUNT: Rule = (_is_count, "a whole number above 0")
COUNT_OR_NONE: Rule = (_or_none(_is_count), "a whole number above 0, or None")
SECONDS: Rule = (_is_seconds, "a number of seconds, 0 or more")
SECONDS_OR_NONE: Rule = (_or_none(_is_seconds), "a number of seconds, 0 or more, or None")
ORIGINS: Rule = (
    _are_origins,
    'a list of origins, none of which has a path or ends with "/": as "https://example.com", '
    '"https://*.example.com:8443", "capacitor://localhost", "file://", "null", or "*" for every one',
)

# What the value of a key must be.
RULES: dict[str, Rule] = {
    "ALLOWED_ORIGINS": ORIGINS,
    "CLEANUP_TIMEOUT": SECONDS,
    "DAPHNE": _one_of("complete", "stock"),
    "DAPHNE_ROOT_PATH_HEADER": BOOLEAN,
    "DISCONNECT_GRACE": SECONDS_OR_NONE,
    "HANDSHAKE_TIMEOUT": SECONDS,
    "LAYER_TIMEOUT": SECONDS,
    "LOGIN_FIELDS": (_or_none(_are_texts), "a list of fields of the user model, or None"),
    "MAX_CONNECTIONS": COUNT_OR_NONE,
    "MAX_CONNECTIONS_PER_ADDRESS": COUNT_OR_NONE,
    "MAX_CONNECTIONS_PER_USER": COUNT_OR_NONE,
    "MAX_MESSAGE_SIZE": COUNT_OR_NONE,
    "ORIGIN_REQUIRED": BOOLEAN,
    "REVALIDATE_SECONDS": SECONDS,
    "SHUTDOWN_GRACE": SECONDS,
    "SLOW_CONSUMER": _one_of("close", "drop_oldest"),
    "SLOW_CONSUMER_QUEUE": COUNT,
    "TENANT": (
        _or_none(_is_callable_name),
        "the dotted name of a callable, as 'shop.tenants.current', or None",
    ),
    "THREADS": COUNT,
}
