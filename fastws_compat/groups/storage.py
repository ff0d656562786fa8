"""The store of each channel layer."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from django.utils.module_loading import import_string

from fastws_compat import conf
from fastws_compat.exceptions import GroupKindError
from fastws_compat.groups.splice import can_splice
from fastws_compat.groups.stores import MemoryStore, Store
from fastws_compat.layers.backends import (
    hosts_of,
    is_in_memory,
    is_on_redis,
    is_pubsub,
    place_in,
    prefix_of,
    replaces,
)
from fastws_compat.layers.client import layer_of

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
    place = place_in(layer)
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
    return None if layer is None or replaces(layer, "group_send") else layer
