"""Sending on a pub/sub layer of channels_redis without redis-py's client, which costs more than the rest.

The client does more only when something fails. The layer itself then sends the message.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any
from weakref import WeakKeyDictionary

from fastws_compat.groups.servers import Servers
from fastws_compat.groups.stores import StoreError, StoreRefused
from fastws_compat.layers.backends import hosts_of, place_in, prefix_of
from fastws_compat.layers.pubsub import is_bypassed

_servers: WeakKeyDictionary[Any, Servers] = WeakKeyDictionary()


def sending(layer: Any, group: str, message: dict[str, Any]) -> Coroutine[Any, Any, None]:
    """The call that sends a message to a group of a layer."""
    if is_bypassed(layer):
        return _publish(_servers.get(layer) or _begin(layer), layer, group, message)
    call: Coroutine[Any, Any, None] = layer.group_send(group, message)
    return call


def _begin(layer: Any) -> Servers:
    # One connection, so that messages do not overtake each other.
    made = Servers(hosts_of(layer), prefix_of(layer), place_in(layer), connections=1)
    return _servers.setdefault(layer, made)


async def _publish(servers: Servers, layer: Any, group: str, message: dict[str, Any]) -> None:
    try:
        await servers.publish(group, layer.serialize(message))
    except StoreRefused:
        await layer.group_send(group, message)
    except StoreError as exc:  # members may have the message already, and must not get it twice
        raise (exc.__cause__ or exc) from None
