"""Functions that are called when a connection begins, is answered, fails and ends.

The lists are empty unless metrics, traces or logs are used.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fastws_compat.logger import logger
from fastws_compat.types import Scope

Hook = Callable[..., None]

# Called with each Session: in its own task before anything else, when its handshake is accepted or refused,
# and when it has ended. Its scope, its route and its counts can be read in all three.
begun: list[Hook] = []
answered: list[Hook] = []
ended: list[Hook] = []
# Called with the Session and the exception that its application raised, before the exception is logged.
failed: list[Hook] = []
# Called with the scope, the status and the reason of a handshake that was refused before its session began.
refused: list[Callable[[Scope | None, int, str], None]] = []
# With the alias of a channel layer and the seconds that it needed to take a message for a group.
sent: list[Callable[[str, float], None]] = []
# Called with the coroutine that sends a message to a group, the layer's alias, the group's name and the
# message; and with the one that delivers it here, the same three and the number of members. They return a
# coroutine that awaits it. Nothing has been sent yet.
Wrapper = Callable[..., Coroutine[Any, Any, Any]]
sending: Wrapper | None = None
delivering: Wrapper | None = None

_broken: set[Any] = set()


def run(hooks: Sequence[Callable[..., None]], *arguments: Any) -> None:
    """Call the hooks. The first exception of each is logged, and none reaches the connection."""
    for hook in tuple(hooks):
        try:
            hook(*arguments)
        except Exception as exc:
            _report(hook, exc)


def wrapped(wrapper: Wrapper, call: Coroutine[Any, Any, Any], *arguments: Any) -> Coroutine[Any, Any, Any]:
    """What a wrapper makes of a coroutine; the coroutine itself if the wrapper fails."""
    try:
        return wrapper(call, *arguments)
    except Exception as exc:
        _report(wrapper, exc)
        return call


def _report(hook: Any, exc: Exception) -> None:
    if hook not in _broken:
        _broken.add(hook)
        name = getattr(hook, "__qualname__", repr(hook))
        logger.error("%s failed; its further failures are not logged: %r", name, exc)
