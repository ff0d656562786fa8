"""Checks of CHANNEL_LAYERS: whether layers can be created, reach other processes and keep their members."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from channels.layers import channel_layers
from django.conf import settings
from django.core.checks import Warning, register

from fastws_compat.checks.messages import TAG, Messages, ServingError, message
from fastws_compat.checks.packages import major
from fastws_compat.logger import in_words

IN_MEMORY = "channels.layers.InMemoryChannelLayer"
REDIS_CORE = "channels_redis.core.RedisChannelLayer"
DAY = 86400  # the default of daphne's --websocket_timeout and of the layers' group_expiry


@register(TAG)
def check_in_memory_layer(**kwargs: Any) -> Messages:
    found = _aliases(lambda layer: layer.get("BACKEND") == IN_MEMORY)
    if settings.DEBUG or not found or sys.argv[1:2] == ["test"]:
        return []  # `manage.py test` turns DEBUG off itself
    return message(
        Warning,
        "W001",
        f"DEBUG is off, but messages of an in-memory channel layer ({found}) do not reach other processes.",
        "Use a layer of channels_redis, or silence this check if the site always runs in a single process.",
    )


@register(TAG)
def check_redis_timeout(**kwargs: Any) -> Messages:
    found = _aliases(lambda layer: layer.get("BACKEND") == REDIS_CORE and not _have_timeouts(layer))
    if not found or major("redis") < 8:
        return []
    return message(
        Warning,
        "W004",
        "redis-py 8 times out after five seconds of silence, which closes idle sockets of the channel layers "
        f"{found}.",
        'Set "hosts" to [{"address": "redis://...", "socket_timeout": None}].',
    )


def _have_timeouts(layer: dict[str, Any]) -> bool:
    return all(map(_has_timeout, layer.get("CONFIG", {}).get("hosts") or [{}]))


def _has_timeout(host: Any) -> bool:
    return "socket_timeout" in host if isinstance(host, dict) else "socket_timeout=" in str(host)


@register(TAG)
def check_group_expiry(**kwargs: Any) -> Messages:
    found = _aliases(_drops_members)
    if not found:
        return []
    return message(
        Warning,
        "W007",
        f"Channel layers drop members that are still connected: group_expiry is below {DAY} s ({found}).",
        f"Raise group_expiry to {DAY}, or silence this check if daphne's --websocket_timeout is lower.",
    )


@register(TAG)
def check_backends(**kwargs: Any) -> Messages:
    return [
        found
        for alias in declared()
        if (problem := _problem(alias)) is not None
        for found in message(
            ServingError,
            "E009",
            f"The channel layer {alias!r} cannot be created: {problem}.",
            "Correct its BACKEND or CONFIG in CHANNEL_LAYERS.",
        )
    ]


def _problem(alias: str) -> str | None:
    """Why the layer cannot be created. Creating it does not open a connection."""
    try:
        channel_layers[alias]
    except Exception as exc:
        return in_words(exc)
    return None


def _drops_members(layer: dict[str, Any]) -> bool:
    expiry = layer.get("CONFIG", {}).get("group_expiry", DAY)
    return isinstance(expiry, int | float) and expiry < DAY


def declared() -> dict[str, dict[str, Any]]:
    return getattr(settings, "CHANNEL_LAYERS", None) or {}


def _aliases(matches: Callable[[dict[str, Any]], bool]) -> str:
    """The names of the channel layers that match."""
    return ", ".join(repr(alias) for alias, layer in declared().items() if matches(layer or {}))
