"""Functions that are called when a connection begins, is answered, fails and ends.

The lists are empty unless metrics, traces or logs are used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

_broken: set[Any] = set()


def run(hooks: Sequence[Callable[..., None]], *arguments: Any) -> None:
    """Call the hooks. The first exception of each is logged, and none reaches the connection."""
    for hook in tuple(hooks):
        try:
            hook(*arguments)
        except Exception as exc:
            _report(hook, exc)


def _report(hook: Any, exc: Exception) -> None:
    if hook not in _broken:
        _broken.add(hook)
        name = getattr(hook, "__qualname__", repr(hook))
        logger.error("%s failed; its further failures are not logged: %r", name, exc)
