"""Where the presence in each group is stored: on the server that has its history, or in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from fastws_compat.groups.redis import RedisStore
from fastws_compat.groups.redis_seats import RedisSeats
from fastws_compat.groups.seats import MemorySeats, Seats
from fastws_compat.groups.storage import make_store, store_of
from fastws_compat.groups.stores import MemoryStore, Store
from fastws_compat.layers.client import layer_of

# By layer, its store and what was made for it: a function from a group to its seats.
_seating: WeakKeyDictionary[Any, tuple[Store, Callable[[str], Seats]]] = WeakKeyDictionary()


def seats_of(alias: str, group: str) -> Seats:
    """The seats of a group; GroupKindError if there is no store for the layer."""
    layer, store = layer_of(alias), store_of(alias)
    known = _seating.get(layer)
    if known is None or known[0] is not store:
        known = _seating[layer] = (store, _seated(alias, layer, store))
    return known[1](group)


def _seated(alias: str, layer: Any, store: Store) -> Callable[[str], Seats]:
    if not isinstance(store, RedisStore | MemoryStore):  # the project's own store, which keeps only histories
        store = make_store(alias, layer, "auto")
    if not isinstance(store, RedisStore):
        memory = MemorySeats()
        return lambda group: memory
    servers = store.servers
    seats = [RedisSeats(store, number) for number in range(len(servers.hosts))]
    return lambda group: seats[servers.index(group)]
