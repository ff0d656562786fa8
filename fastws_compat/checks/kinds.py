"""Checks of FASTWS["GROUPS"]: whether the kinds are valid, and whether other settings contradict them."""

from __future__ import annotations

from typing import Any

from channels.layers import channel_layers
from django.core.checks import Error, Warning, register

from fastws_compat import conf
from fastws_compat.checks.layers import declared
from fastws_compat.checks.messages import TAG, Messages, message
from fastws_compat.exceptions import GroupKindError


@register(TAG)
def check_kinds(**kwargs: Any) -> Messages:
    patterns = conf.get("GROUPS")
    if not patterns or not isinstance(patterns, dict):
        return []  # the wrong type is reported with the other settings
    from fastws_compat.groups import kinds  # imports pydantic

    try:
        found = kinds.parse_all(patterns)
    except GroupKindError as exc:
        return message(Error, "E011", str(exc), "The settings list the parts and their options.")
    keeping = [kind for kind in found.values() if kind.history or kind.presence]
    has_history = any(kind.history for kind in keeping)
    return [*(check_stores() if keeping else []), *(check_slow_consumers() if has_history else [])]


def check_stores() -> Messages:
    """Layers from other packages have no store, unless the settings name one."""
    from fastws_compat.groups.storage import make_store  # imports pydantic
    from fastws_compat.groups.stores import MemoryStore
    from fastws_compat.layers.backends import is_on_redis

    for alias in declared():
        try:
            store = make_store(alias, channel_layers[alias], conf.get("STORE"))
            if isinstance(store, MemoryStore) and is_on_redis(channel_layers[alias]):
                return _apart(alias)
        except GroupKindError as exc:
            return message(Warning, "W018", str(exc), "Groups on this layer raise GroupKindError until then.")
        except Exception:
            continue  # the layer or the store cannot be made, which other checks report
    return []


def _apart(alias: str) -> Messages:
    return message(
        Warning,
        "W019",
        f'FASTWS["STORE"] is "memory", but the channel layer {alias!r} connects processes: what one keeps '
        "in its memory does not reach the members in another one.",
        'Remove the setting, unless there is only one process: "auto" keeps it on the servers of the layer.',
    )


def check_slow_consumers() -> Messages:
    if conf.get("SLOW_CONSUMER") != "drop_oldest":
        return []
    return message(
        Warning,
        "W016",
        'FASTWS["SLOW_CONSUMER"] is "drop_oldest", which does not apply to clients that recover: they '
        "are closed with 1013, reconnect, and get what they missed.",
        'Remove the setting, or the "history" of the groups.',
    )
