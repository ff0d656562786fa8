"""The messages about logins between processes, over the default channel layer if it reaches other processes.

They are sent to the group `fastws_compat.logins`:

    {"type": "fastws.logins", "sender": ..., "event": "end", "user": "5", "session": digest or None,
     "code": 4401, "reason": ""}
    {"type": "fastws.logins", "sender": ..., "event": "recheck", "users": ["5"]}, or None for all users

The digest stands for the session's key, see `session_digest`. Users outside of the default database have a
"tenant", see `tenants`.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any
from uuid import uuid4

from asgiref.sync import async_to_sync
from channels.exceptions import InvalidChannelLayerError

from fastws_compat.layers.client import DEFAULT, is_bound_to_loop, layer_of
from fastws_compat.layers.local import LocalLayer
from fastws_compat.layers.outbox import outbox_of

GROUP = "fastws_compat.logins"
MESSAGE_TYPE = "fastws.logins"

_sender = uuid4().hex


def sender_id() -> str:
    """Identifies this process."""
    return f"{_sender}.{os.getpid()}"  # a forked process has its parent's variables


def login_message(event: str, tenant: str | None, **values: Any) -> dict[str, Any]:
    of_tenant = {"tenant": tenant} if tenant else {}
    return {"type": MESSAGE_TYPE, "sender": sender_id(), "event": event, **values, **of_tenant}


def shared_layer() -> Any:
    """The default channel layer, if the project has one that reaches other processes."""
    try:
        layer = layer_of(DEFAULT)
    except InvalidChannelLayerError:  # reported by a system check, and by Channels when the layer is used
        return None
    return None if is_bound_to_loop(layer) or isinstance(layer, LocalLayer) else layer


async def apublish(message: dict[str, Any]) -> None:
    """Send a message to the other processes, or keep it until the layer answers."""
    layer = shared_layer()
    if layer is not None:
        await outbox_of(layer, GROUP, login_message("recheck", None, users=None)).send(message)


_publishing: set[asyncio.Task[None]] = set()


def publish(message: dict[str, Any]) -> None:
    """As `apublish`, for sync code; in a running event loop the message is sent soon after."""
    if shared_layer() is None:
        return
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        async_to_sync(apublish)(message)
    else:
        task = loop.create_task(apublish(message))
        _publishing.add(task)
        task.add_done_callback(_publishing.discard)
