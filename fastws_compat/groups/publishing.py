"""Sending to groups that have a history: the store keeps the message, and the layer carries a copy of it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from fastws_compat import conf
from fastws_compat.exceptions import GroupSendError
from fastws_compat.groups.breaker import breaker_of
from fastws_compat.groups.kinds import Kind
from fastws_compat.groups.storage import store_of
from fastws_compat.groups.stores import Appended, Draft, StoreError, StoreRefused, history_of
from fastws_compat.layers.client import counters, with_timeout
from fastws_compat.layers.wire import Payload

# Packs a message with these additional keys, and sends it on the layer.
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def publish(
    alias: str, group: str, kind: Kind, payload: Payload, extra: dict[str, Any], key: str | None, send: Send
) -> bool:
    """Keep a message and send it; returns False if one with this key has been sent before.

    Raises ValueError for a message that is too big, and GroupSendError if it may not have been sent.
    """
    history = history_of(kind)
    size = len(payload.data.encode() if isinstance(payload.data, str) else payload.data) + len(key or "")
    if size > history.bytes:
        raise ValueError(f"A message of {size} bytes exceeds the {history.bytes} `bytes` of its kind.")
    draft = Draft(draft_id(extra), payload, extra.get("exclude"), key)
    named = extra if key is None else {**extra, "key": key}
    try:
        place = await keep(alias, group, kind, draft)
    except StoreRefused as exc:
        if history.on_failure == "raise":
            raise failure(alias, group, exc) from exc
        await _send_unkept(alias, group, kind, send({**named, "kept": False}))
        return True
    if place.is_new:
        await announce(place, named, send)
    return place.is_new


async def _send_unkept(alias: str, group: str, kind: Kind, sending: Awaitable[None]) -> None:
    """Send a message that the store has refused. Clients that are disconnected now cannot recover."""
    counters["unkept"] += 1
    breaker = breaker_of(alias)
    breaker.add_hole(group, kind)
    try:
        await sending
    finally:
        # The hole is before the end of this send; a message kept in the meantime may have noted it too early.
        breaker.add_hole(group, kind)


async def announce(place: Appended, extra: dict[str, Any], send: Send) -> None:
    """Send a message that has been kept. If the layer fails, every process finds it in the store."""
    counters["kept"] += 1
    with suppress(GroupSendError):
        await send({**extra, "epoch": place.epoch, "offset": place.offset})


def draft_id(extra: dict[str, Any]) -> str:
    return f"{extra['from']}.{extra['number']}"


async def keep(alias: str, group: str, kind: Kind, draft: Draft) -> Appended:
    """Append to the store. StoreRefused if it was certainly not done, GroupSendError if that is unknown."""
    breaker = breaker_of(alias)
    if breaker.is_open:
        raise StoreRefused("it has failed less than a second ago")
    hole = breaker.hole(group)
    try:
        place = await _append(alias, group, kind, draft, hole is not None)
    except StoreRefused as exc:
        breaker.failed(exc)
        raise
    breaker.succeeded()
    if hole is not None:
        breaker.fill_hole(group, hole)
    return place


async def _append(alias: str, group: str, kind: Kind, draft: Draft, hole: bool) -> Appended:
    """Append; if the outcome is unknown, check and try again, within the timeout of one call."""
    store, begun = store_of(alias), time.monotonic()
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
        raise failure(alias, group, exc) from exc
    return place


def failure(alias: str, group: str, exc: Exception) -> GroupSendError:
    return GroupSendError(
        f"The store of channel layer {alias!r} did not accept a message for group {group!r}: {exc}"
    )
