"""Calls to channel layers: each has a time limit, failures are counted, and an outage is logged once."""

from __future__ import annotations

import asyncio
import functools
import time
from collections import Counter
from collections.abc import Coroutine, Mapping
from importlib import import_module
from typing import Any

from fastws_compat import conf
from fastws_compat.connections import census, hooks
from fastws_compat.connections.census import Histogram
from fastws_compat.exceptions import GroupSendError
from fastws_compat.layers.local import local_layer
from fastws_compat.layers.timeouts import TimeLimit
from fastws_compat.logger import in_words, logger

DEFAULT = "default"
# Upper bounds, in seconds, of the histogram of sends to a layer.
SEND_TIMES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5)

# sent; failed (the layer did not accept the message); lost (on the way to this process); dropped (a slow
# member missed the message); closed (slow members); outages.
counters: Counter[str] = Counter()


def layer_of(alias: str) -> Any:
    """The channel layer with this alias, or a layer local to the process if `CHANNEL_LAYERS` is empty.

    Raises InvalidChannelLayerError for an unknown alias, and for a layer that cannot be created.
    """
    try:
        return _channels().channel_layers[alias]
    except KeyError as exc:  # an unknown alias, or an error of the backend's constructor
        return _missing_layer(alias, _channels().channel_layers.configs, exc)
    except Exception as exc:
        return _without_settings(alias, exc)


@functools.cache
def _channels() -> Any:
    """Channels' module; an `import` in a function costs more than a cached call."""
    return import_module("channels.layers")


def _without_settings(alias: str, exc: Exception) -> Any:
    from django.core.exceptions import ImproperlyConfigured

    if isinstance(exc, ImproperlyConfigured):  # Django has no settings
        return local_layer(alias)
    raise exc


def _missing_layer(alias: str, declared: Mapping[str, Any], exc: KeyError) -> Any:
    from channels.exceptions import InvalidChannelLayerError

    if alias in declared:
        raise InvalidChannelLayerError(f"Channel layer {alias!r} cannot be created: KeyError: {exc}") from exc
    if declared or alias != DEFAULT:
        known = ", ".join(map(repr, declared)) or "none"
        raise InvalidChannelLayerError(f"CHANNEL_LAYERS has no {alias!r}. Its layers are: {known}.") from None
    return local_layer(alias)


def is_bound_to_loop(layer: Any) -> bool:
    """Whether only the event loop that receives from the layer may send through it."""
    return isinstance(layer, _channels().InMemoryChannelLayer)


async def with_timeout(call: Coroutine[Any, Any, Any], seconds: float | None = None) -> Any:
    """The result of a call to a layer; TimeoutError after `seconds`, or after FASTWS["LAYER_TIMEOUT"]."""
    shared = conf.get("LAYER_TIMEOUT")
    try:
        if seconds is None:
            with TimeLimit(shared):
                return await call
        async with asyncio.timeout(seconds):
            return await call
    except TimeoutError:
        raise TimeoutError(f"no answer within {shared if seconds is None else seconds} s")


class Health:
    """Whether a layer works, as this process sees it.

    An outage ends when every operation that failed has succeeded again. One that works proves nothing about
    the others: a layer may accept messages and not deliver them.
    """

    def __init__(self, alias: str) -> None:
        self.alias = alias
        # As in `counters`, and the deliveries to members; the seconds that sends took.
        self.counts: Counter[str] = Counter()
        self.send_times = Histogram(SEND_TIMES)
        self.failing_since: float | None = None
        self._failing: set[str] = set()
        self._lost = 0

    def count(self, name: str, number: int = 1) -> None:
        counters[name] += number
        self.counts[name] += number

    def failed(self, exc: BaseException, operation: str = "receiving") -> None:
        self._failing.add(operation)
        if self.failing_since is None:
            self.failing_since, self._lost = time.monotonic(), 0
            self.count("outages")
            logger.error(
                "Channel layer %r fails (%s): group messages are not delivered until it recovers",
                self.alias,
                in_words(exc),
            )

    def succeeded(self, operation: str = "receiving") -> None:
        self._end(operation, "has recovered after %.1f s")

    def unused(self, operation: str = "receiving") -> None:
        """End the outage of an operation that nothing needs any more: nobody would notice its recovery."""
        self._end(operation, "has no members here any more, %.1f s after it failed")

    def _end(self, operation: str, how: str) -> None:
        self._failing.discard(operation)
        if self.failing_since is not None and not self._failing:
            seconds, self.failing_since = time.monotonic() - self.failing_since, None
            logger.warning(
                "Channel layer %r %s; %d messages from this process were lost",
                self.alias,
                how % seconds,
                self._lost,
            )

    def send_failed(self, exc: BaseException) -> None:
        self.failed(exc, "sending")
        self._lost += 1
        self.count("failed")

    def send_succeeded(self) -> None:
        self.succeeded("sending")
        self.count("sent")


# By the alias of the layer.
healths: dict[str, Health] = {}


@functools.cache
def health(alias: str) -> Health:
    found = healths[alias] = Health(alias)
    return found


async def group_send(alias: str, group: str, call: Coroutine[Any, Any, Any]) -> None:
    """Await a layer's `group_send`; raises GroupSendError if the layer fails or times out."""
    begun = start_of_send()
    try:
        await with_timeout(call)
    except (TypeError, ValueError):
        raise  # the message is at fault, not the layer
    except Exception as exc:
        health(alias).send_failed(exc)
        raise GroupSendError(
            f"Channel layer {alias!r} did not accept a message for group {group!r}: {in_words(exc)}"
        ) from exc
    send_succeeded(alias, begun)


def start_of_send() -> float | None:
    """The time if sends are measured."""
    return time.monotonic() if census.is_on else None


def send_succeeded(alias: str, begun: float | None) -> None:
    """Take account of a message that has been sent."""
    health(alias).send_succeeded()
    if begun is not None:
        seconds = time.monotonic() - begun
        health(alias).send_times.add(seconds)
        hooks.run(hooks.sent, alias, seconds)
