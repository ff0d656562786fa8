"""The store of each channel layer."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from django.utils.module_loading import import_string

from fastws_compat import conf
from fastws_compat.exceptions import GroupKindError
from fastws_compat.groups.splice import can_splice
from fastws_compat.groups.stores import MemoryStore, Store
from fastws_compat.layers.client import layer_of
from fastws_compat.layers.local import LocalLayer

# By layer, the value of FASTWS["STORE"] and the store made for it.
_stores: WeakKeyDictionary[Any, tuple[Any, Store]] = WeakKeyDictionary()


def store_of(alias: str) -> Store:
    """The store of a layer, chosen by FASTWS["STORE"]; GroupKindError if there is none for it."""
    return _found(alias, layer_of(alias))


def _found(alias: str, layer: Any) -> Store:
    setting, known = conf.get("STORE"), _stores.get(layer)
    if known is None or known[0] != setting:
        known = _stores[layer] = (setting, make_store(alias, layer, setting))
    return known[1]


def make_store(alias: str, layer: Any, setting: Any) -> Store:
    chosen = setting.get(alias, "auto") if isinstance(setting, dict) else setting
    if isinstance(chosen, list):
        return _on_redis(layer, chosen)
    if chosen == "memory" or (chosen == "auto" and is_in_memory(layer)):
        return MemoryStore()
    if chosen != "auto":
        made: Store = import_string(chosen)()
        return made
    if not is_on_redis(layer):
        raise GroupKindError(no_store(alias, type(layer).__qualname__))
    return _on_redis(layer, hosts_of(layer))


def no_store(alias: str, name: str) -> str:
    return (
        f"Groups of the channel layer {alias!r} can have neither history nor presence, because {name} is "
        'neither in memory nor a layer of channels_redis: name Redis servers in FASTWS["STORE"].'
    )


def _on_redis(layer: Any, hosts: Any) -> Store:
    from fastws_compat.groups.redis import RedisStore
    from fastws_compat.groups.servers import Servers

    prefix = prefix_of(layer)
    place = _pubsub_channel(prefix) if is_pubsub(layer) else str
    crypter = getattr(getattr(layer, "_serializer", None), "crypter", None)
    store = RedisStore(Servers(hosts, prefix, place), crypter)
    store.splices = crypter is None and _shares_servers(layer, store.servers.hosts) and can_splice(layer)
    return store


def _shares_servers(layer: Any, hosts: list[Any]) -> bool:
    """Whether the layer publishes on the servers of the store."""
    from channels_redis.utils import decode_hosts

    return is_pubsub(layer) and bool(decode_hosts(hosts_of(layer)) == hosts)


def spliced_layer(alias: str, store: Store) -> Any:
    """The layer, if its store also publishes what it keeps; else None."""
    layer = layer_of(alias) if store.splices else None
    return None if layer is None or _has_own_group_send(layer) else layer


def _has_own_group_send(layer: Any) -> bool:
    """Whether the project has replaced this method; messages must not go around it."""
    return "group_send" in vars(layer) or hasattr(type(layer), "group_send")


def _pubsub_channel(prefix: str) -> Any:
    return f"{prefix}__group__{{}}".format


def prefix_of(layer: Any) -> str:
    """The prefix of the layer's keys, which separates projects on one server."""
    options = layer._kwargs if is_pubsub(layer) else vars(layer)
    return str(options.get("prefix", "asgi"))


def hosts_of(layer: Any) -> Any:
    """The servers of a layer of channels_redis."""
    if not is_pubsub(layer):
        return layer.hosts
    return layer._args[0] if layer._args else layer._kwargs.get("hosts")


def is_in_memory(layer: Any) -> bool:
    return isinstance(layer, LocalLayer) or _inherits(layer, "channels.layers", "InMemoryChannelLayer")


def is_on_redis(layer: Any) -> bool:
    return is_pubsub(layer) or _inherits(layer, "channels_redis.core", "RedisChannelLayer")


def is_pubsub(layer: Any) -> bool:
    return _inherits(layer, "channels_redis.pubsub", "RedisPubSubChannelLayer")


def _inherits(layer: Any, module: str, name: str) -> bool:
    """Whether the layer's class, which may be the project's own, derives from this one."""
    return any((base.__module__, base.__qualname__) == (module, name) for base in type(layer).__mro__)
