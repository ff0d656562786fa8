"""What is known about channel layers that are in memory, or that channels_redis provides."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from fastws_compat.layers.local import LocalLayer


def is_in_memory(layer: Any) -> bool:
    return isinstance(layer, LocalLayer) or _inherits(layer, "channels.layers", "InMemoryChannelLayer")


def is_on_redis(layer: Any) -> bool:
    return is_pubsub(layer) or _inherits(layer, "channels_redis.core", "RedisChannelLayer")


def is_pubsub(layer: Any) -> bool:
    return _inherits(layer, "channels_redis.pubsub", "RedisPubSubChannelLayer")


def _inherits(layer: Any, module: str, name: str) -> bool:
    """Whether the layer's class, which may be the project's own, derives from this one."""
    kind: Any = type(layer)
    return _derives(kind, module, name)


@lru_cache(maxsize=100)
def _derives(kind: type, module: str, name: str) -> bool:
    return any((base.__module__, base.__qualname__) == (module, name) for base in kind.__mro__)


def replaces(layer: Any, *methods: str) -> bool:
    """Whether the project has replaced methods of a pub/sub layer; messages must not go around them.

    channels_redis finds its own methods in `__getattr__`.
    """
    kind: Any = type(layer)
    return not vars(layer).keys().isdisjoint(methods) or _defines(kind, methods)


@lru_cache(maxsize=100)
def _defines(kind: type, methods: tuple[str, ...]) -> bool:
    return any(hasattr(kind, method) for method in methods)


def prefix_of(layer: Any) -> str:
    """The prefix of the layer's keys, which separates projects on one server."""
    options = layer._kwargs if is_pubsub(layer) else vars(layer)
    return str(options.get("prefix", "asgi"))


def place_in(layer: Any) -> Callable[[str], str]:
    """Makes the name by which the layer chooses the server of a group: that of its channel, with pub/sub."""
    return f"{prefix_of(layer)}__group__{{}}".format if is_pubsub(layer) else str


def hosts_of(layer: Any) -> Any:
    """The servers of a layer of channels_redis."""
    if not is_pubsub(layer):
        return layer.hosts
    return layer._args[0] if layer._args else layer._kwargs.get("hosts")
