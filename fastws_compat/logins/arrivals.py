"""What a handshake looks up: the user of its session, and whether the user has a permission."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib.auth import SESSION_KEY

from fastws_compat.connections.admission import Turn
from fastws_compat.logins import stores, tenants
from fastws_compat.logins.batches import LookUp, Release, alone, find, is_busy
from fastws_compat.logins.judge import ALONE, Condition, load_permissions, owner_of, owners_of


class Owners(LookUp):
    """The users of sessions; None without a login."""

    def one(self, item: Any, release: Release) -> Any:
        return owner_of(item, release)

    def many(self, items: Sequence[Any]) -> Sequence[Any]:
        return owners_of(items)


class Permissions(LookUp):
    """Whether users meet conditions that depend on their permissions; an item is a condition and a user."""

    def one(self, item: tuple[Condition, Any], release: Release) -> bool:
        condition, user = item
        if not _are_djangos_own():
            release()
        return bool(condition.test(user))

    def many(self, items: Sequence[tuple[Condition, Any]]) -> Sequence[Any]:
        """Without a query for each, as far as Django's own backend decides."""
        load_permissions([user for _, user in items])
        if not _are_djangos_own():
            return [ALONE] * len(items)
        return [bool(condition.test(user)) for condition, user in items]


def _are_djangos_own() -> bool:
    """Whether only Django's own code decides about permissions."""
    from fastws_compat.logins.fields import is_djangos_own  # imports the models

    return is_djangos_own()


OWNERS, PERMISSIONS = Owners(), Permissions()


async def owner(session: Any, turn: Turn | None = None) -> Any:
    """The user of a session, found together with those of other handshakes."""
    where = tenants.place()
    place = where and (where, type(session))
    reads_alone = not stores.is_loaded(session) and not stores.reads_many(session)
    if place and reads_alone and is_busy(OWNERS, place):
        # It would wait; meanwhile a thread of the pool can read it.
        await alone(turn, session.get, SESSION_KEY)
    return await find(OWNERS, place, session, turn)


async def is_permitted(condition: Condition, user: Any, turn: Turn | None = None) -> bool:
    """Whether the user meets a condition that depends on permissions."""
    permitted: bool = await find(PERMISSIONS, tenants.place(), (condition, user), turn)
    return permitted
