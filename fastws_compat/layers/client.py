"""Channel layers, each call with a time limit; what fails is counted, and logged once per outage."""

from __future__ import annotations

import asyncio
import functools
import time
from collections import Counter
from collections.abc import Coroutine, Mapping
from typing import Any

from fastws_compat import conf
from fastws_compat.exceptions import GroupSendError
from fastws_compat.layers.local import local_layer
from fastws_compat.logger import logger

DEFAULT = "default"

# sent, failed (sends that the layer did not take), lost (on the way to this process), dropped (for slow
# members), closed (slow members), outages.
counters: Counter[str] = Counter()


def layer_of(alias: str) -> Any:
    """The project's channel layer of that name, or the process's own where `CHANNEL_LAYERS` is empty.

    Raises InvalidChannelLayerError for a name that it does not have, and for a layer that cannot be made.
    """
    from channels.layers import channel_layers
    from django.core.exceptions import ImproperlyConfigured

    try:
        return channel_layers[alias]
    except ImproperlyConfigured:  # no settings at all
        return local_layer(alias)
    except KeyError as exc:  # Channels' `get_channel_layer` takes every KeyError for a missing name
        return _without(alias, channel_layers.configs, exc)


def _without(alias: str, declared: Mapping[str, Any], exc: KeyError) -> Any:
    from channels.exceptions import InvalidChannelLayerError

    if alias in declared:
        raise InvalidChannelLayerError(f"Channel layer {alias!r} cannot be made: KeyError: {exc}") from exc
    if declared or alias != DEFAULT:
        known = ", ".join(map(repr, declared)) or "none"
        raise InvalidChannelLayerError(f"CHANNEL_LAYERS has no {alias!r}; there is: {known}.") from None
    return local_layer(alias)


def is_bound_to_loop(layer: Any) -> bool:
    """Whether only the loop that receives from the layer may put something into it."""
    from channels.layers import InMemoryChannelLayer

    return isinstance(layer, InMemoryChannelLayer)


async def limited(call: Coroutine[Any, Any, Any], seconds: float | None = None) -> Any:
    """The result of a call to a layer; TimeoutError after `seconds`, or after FASTWS["LAYER_TIMEOUT"]."""
    seconds = conf.get("LAYER_TIMEOUT") if seconds is None else seconds
    try:
        async with asyncio.timeout(seconds):
            return await call
    except TimeoutError:
        raise TimeoutError(f"no answer within {seconds} s")


class Health:
    """Whether a layer answers this process.

    An outage ends when everything works again that failed: that a layer takes messages does not say that it
    gives them, and one that only seems to take members says nothing of either.
    """

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.since: float | None = None
        self._broken: set[str] = set()
        self._lost = 0

    def failed(self, exc: BaseException, what: str = "receiving") -> None:
        self._broken.add(what)
        if self.since is None:
            self.since, self._lost = time.monotonic(), 0
            counters["outages"] += 1
            logger.error(
                "Channel layer %r fails (%s: %s): until it is back, groups reach nobody",
                self.alias,
                type(exc).__name__,
                exc,
            )

    def answered(self, what: str = "receiving") -> None:
        self._broken.discard(what)
        if self.since is not None and not self._broken:
            seconds, self.since = time.monotonic() - self.since, None
            logger.warning(
                "Channel layer %r is back after %.1f s; %d messages of this process were lost",
                self.alias,
                seconds,
                self._lost,
            )

    def send_failed(self, exc: BaseException) -> None:
        self.failed(exc, "sending")
        self._lost += 1
        counters["failed"] += 1

    def sent(self) -> None:
        self.answered("sending")
        counters["sent"] += 1


@functools.cache
def health(alias: str) -> Health:
    return Health(alias)


async def group_send(alias: str, group: str, call: Coroutine[Any, Any, Any]) -> None:
    """Await a layer's `group_send`; GroupSendError if the layer fails or does not answer in time."""
    try:
        await limited(call)
    except (TypeError, ValueError):
        raise  # what was sent is at fault, not the layer
    except Exception as exc:
        health(alias).send_failed(exc)
        raise GroupSendError(
            f"Channel layer {alias!r} did not take a message for group {group!r}: {type(exc).__name__}: {exc}"
        ) from exc
    health(alias).sent()
