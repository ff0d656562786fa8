"""The user of a connection, as far as that is known without a query."""

from __future__ import annotations

from typing import Any

from fastws_compat.types import Scope


def user_of(scope: Scope) -> Any:
    """The user who is logged in; None if nobody is, or if the user has not been looked up yet."""
    user = scope.get("user")
    user = getattr(user, "__dict__", {}).get("_wrapped", user)
    return user if getattr(user, "is_authenticated", False) else None


def name_of(scope: Scope) -> str | None:
    user = user_of(scope)
    if user is None:
        return None
    get_username = getattr(user, "get_username", None)
    return str(get_username() if get_username is not None else user)
