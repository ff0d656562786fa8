"""Sending to groups that have a history: the store keeps the message, and the layer carries a copy of it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fastws_compat import conf
from fastws_compat.connections import hooks
from fastws_compat.exceptions import GroupSendError
from fastws_compat.groups.breaker import Breaker, breaker_of
from fastws_compat.groups.kinds import Kind
from fastws_compat.groups.splice import PLACE, cut
from fastws_compat.groups.storage import spliced_layer
from fastws_compat.groups.stores import (
    Appended,
    Draft,
    Hole,
    StoreError,
    StoreRefused,
    StoreRejected,
    history_of,
)
from fastws_compat.layers.client import counters, send_succeeded, start_of_send, with_timeout
from fastws_compat.layers.wire import Payload


@dataclass(slots=True)
class Route:
    """How a message reaches the members of a group."""

    alias: str
    group: str
    # Makes the layer's message with these additional keys.
    pack: Callable[[dict[str, Any]], dict[str, Any]]
    # Sends it on the layer.
    send: Callable[[dict[str, Any]], Awaitable[None]]


async def publish(route: Route, kind: Kind, payload: Payload, extra: dict[str, Any], key: str | None) -> bool:
    """Keep a message and send it; returns False if one with this key has been sent before.

    Raises ValueError for a message or a key that is too big, and GroupSendError if it may not have been sent.
    """
    history, data = history_of(kind), payload.data
    size = len(data.encode() if isinstance(data, str) else data) + (0 if key is None else len(key.encode()))
    if size > history.bytes:
        raise ValueError(f"A message of {size} bytes exceeds the {history.bytes} `bytes` of its kind.")
    draft = Draft(draft_id(extra), payload, extra.get("exclude"), key)
    named = extra if key is None else {**extra, "key": key}
    try:
        place = await deliver(route, kind, draft, named)
    except StoreRefused as exc:
        if history.on_failure == "raise" or not breaker_of(route.alias).store.notes_holes:
            raise failure(route.alias, route.group, exc) from exc
        if isinstance(exc, StoreRejected):
            await _mark_now(route, kind)
        await _send_unkept(route, kind, {**named, "kept": False})
        return True
    return place.is_new


async def _mark_now(route: Route, kind: Kind) -> None:
    """Note a hole before the message is sent. The store answers, and others read it although it is full."""
    with suppress(StoreError):
        await breaker_of(route.alias).store.mark_hole(route.group, kind)


async def _send_unkept(route: Route, kind: Kind, extra: dict[str, Any]) -> None:
    """Send a message that the store has refused. Clients that are disconnected now cannot recover."""
    counters["unkept"] += 1
    breaker, group = breaker_of(route.alias), route.group
    breaker.add_hole(group, kind)
    try:
        await route.send(route.pack(extra))
    finally:
        # The hole is before the end of this send; a message kept in the meantime may have noted it too early.
        breaker.add_hole(group, kind, Hole(extra["from"], extra["number"]))


async def deliver(route: Route, kind: Kind, draft: Draft, extra: dict[str, Any]) -> Appended:
    """Keep an entry and send the message. StoreRefused if it was certainly not kept.

    GroupSendError if that is unknown.
    """
    breaker = breaker_of(route.alias)
    if (layer := spliced_layer(route.alias, breaker.store)) is None:
        place = await _in_two_steps(route, kind, draft, extra, breaker)
    else:
        place = await _in_one_step(route, kind, draft, route.pack({**extra, **PLACE}), layer, breaker)
    counters["kept"] += place.is_new
    return place


async def _in_two_steps(
    route: Route, kind: Kind, draft: Draft, extra: dict[str, Any], breaker: Breaker
) -> Appended:
    place = await keep(breaker, route.group, kind, draft)
    if place.is_new:
        with suppress(GroupSendError):  # every process finds the message in the store
            await route.send(route.pack({**extra, "epoch": place.epoch, "offset": place.offset}))
    return place


async def _in_one_step(
    route: Route, kind: Kind, draft: Draft, message: dict[str, Any], layer: Any, breaker: Breaker
) -> Appended:
    if hooks.sending is None:
        return await _splice(route, kind, draft, message, layer, breaker)
    found: list[Appended] = []

    async def call() -> None:
        found.append(await _splice(route, kind, draft, message, layer, breaker))

    await hooks.wrapped(hooks.sending, call(), route.alias, route.group, message)
    return found[0]


async def _splice(
    route: Route, kind: Kind, draft: Draft, message: dict[str, Any], layer: Any, breaker: Breaker
) -> Appended:
    begun = start_of_send()
    draft.copy = cut(layer.serialize(message))
    place = await keep(breaker, route.group, kind, draft)
    if place.is_new:
        send_succeeded(route.alias, begun)
    return place


def draft_id(extra: dict[str, Any]) -> str:
    return f"{extra['from']}.{extra['number']}"


async def keep(breaker: Breaker, group: str, kind: Kind, draft: Draft) -> Appended:
    """Append to the store. StoreRefused if it was certainly not done, GroupSendError if that is unknown."""
    if breaker.is_open:
        raise StoreRefused("it has failed less than a second ago")
    hole = breaker.hole(group)
    try:
        place = await _append(breaker, group, kind, draft, hole)
    except StoreRefused as exc:
        breaker.failed(exc, ("append", group))
        raise
    breaker.succeeded(("append", group))
    if hole is not None:
        breaker.fill_hole(group, hole)
    return place


async def _append(breaker: Breaker, group: str, kind: Kind, draft: Draft, hole: Hole | None) -> Appended:
    """Append; if the outcome is unknown, check and try again, within the timeout of one call."""
    store, begun = breaker.store, time.monotonic()
    try:
        return await store.append(group, kind, draft, hole=hole)
    except StoreRefused:
        raise
    except StoreError:
        left = conf.get("LAYER_TIMEOUT") - (time.monotonic() - begun)
    try:
        again = store.append(group, kind, draft, is_retry=True, hole=hole)
        place: Appended = await with_timeout(again, max(0, left))
    except (StoreError, TimeoutError) as exc:
        raise failure(breaker.alias, group, exc) from exc
    return place


def failure(alias: str, group: str, exc: Exception) -> GroupSendError:
    return GroupSendError(
        f"The store of channel layer {alias!r} did not accept a message for group {group!r}: {exc}"
    )
