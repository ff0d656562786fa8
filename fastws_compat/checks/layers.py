"""The channel layers: whether they reach other processes, and keep sockets and groups for their time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from channels.layers import channel_layers
from django.conf import settings
from django.core.checks import Warning, register

from fastws_compat.checks.messages import TAG, Messages, Unserved, message
from fastws_compat.checks.packages import major

IN_MEMORY = "channels.layers.InMemoryChannelLayer"
REDIS_CORE = "channels_redis.core.RedisChannelLayer"
DAY = 86400  # daphne's --websocket_timeout, and the layers' group_expiry


@register(TAG)
def check_in_memory_layer(**kwargs: Any) -> Messages:
    found = _aliases(lambda layer: layer.get("BACKEND") == IN_MEMORY)
    if settings.DEBUG or not found or sys.argv[1:2] == ["test"]:
        return []  # `manage.py test` turns DEBUG off by itself
    return message(
        Warning,
        "W001",
        f"DEBUG is off, and a channel layer is in-memory ({found}): other processes do not get what is sent.",
        "Use a layer of channels_redis, or silence this check if there is one process for ever.",
    )


@register(TAG)
def check_redis_timeout(**kwargs: Any) -> Messages:
    found = _aliases(lambda layer: layer.get("BACKEND") == REDIS_CORE and not _have_timeouts(layer))
    if not found or major("redis") < 8:
        return []
    return message(
        Warning,
        "W004",
        "redis-py 8 gives up reading after five seconds, which closes idle sockets of these channel layers: "
        f"{found}.",
        'Write hosts as [{"address": "redis://...", "socket_timeout": None}].',
    )


def _have_timeouts(layer: dict[str, Any]) -> bool:
    return all(map(_has_timeout, layer.get("CONFIG", {}).get("hosts") or [{}]))


def _has_timeout(host: Any) -> bool:
    return "socket_timeout" in host if isinstance(host, dict) else "socket_timeout=" in str(host)


@register(TAG)
def check_group_expiry(**kwargs: Any) -> Messages:
    found = _aliases(_forgets_members)
    if not found:
        return []
    return message(
        Warning,
        "W007",
        f"group_expiry is below the {DAY} s that daphne keeps sockets: members are forgotten ({found}).",
        f"Raise group_expiry to {DAY}, or silence this check if --websocket_timeout is lower still.",
    )


@register(TAG)
def check_backends(**kwargs: Any) -> Messages:
    return [
        found
        for alias in declared()
        if (problem := _problem(alias)) is not None
        for found in message(
            Unserved,
            "E009",
            f"Channel layer {alias!r} cannot be made: {problem}.",
            "Correct its BACKEND and CONFIG in CHANNEL_LAYERS.",
        )
    ]


def _problem(alias: str) -> str | None:
    """Why there is no such layer; it makes no connection yet."""
    try:
        channel_layers[alias]
    except Exception as exc:
        return f"{type(exc).__name__}: {exc}"
    return None


def _forgets_members(layer: dict[str, Any]) -> bool:
    expiry = layer.get("CONFIG", {}).get("group_expiry", DAY)
    return isinstance(expiry, int | float) and expiry < DAY


def declared() -> dict[str, dict[str, Any]]:
    return getattr(settings, "CHANNEL_LAYERS", None) or {}


def _aliases(is_meant: Callable[[dict[str, Any]], bool]) -> str:
    """The names of the channel layers that are meant."""
    return ", ".join(repr(alias) for alias, layer in declared().items() if is_meant(layer or {}))
