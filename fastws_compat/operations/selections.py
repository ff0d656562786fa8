"""An operator's selection on the page, signed so that exactly what was shown is confirmed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.core import signing

from fastws_compat.operations.audit import subject_of

SALT = "fastws_compat.operations"
# Seconds for which a selection is valid.
MAX_AGE = 300


@dataclass(frozen=True, slots=True)
class Selection:
    """The filters of an action: a list of ids, or "all that match"."""

    where: dict[str, Any]

    @property
    def ids(self) -> list[str]:
        return list(self.where.get("id", ()))

    @property
    def subject(self) -> str:
        return subject_of(self.where)

    def signed(self, action: str, user: Any) -> str:
        """The selection for a hidden field; it holds for one user and one action."""
        return signing.dumps([str(user.pk), self.where], salt=f"{SALT}.{action}", compress=True)


def signed(text: str, action: str, user: Any) -> Selection:
    """The selection in a hidden field; BadSignature if it was changed, is too old, or is somebody else's."""
    owner, where = signing.loads(text, salt=f"{SALT}.{action}", max_age=MAX_AGE)
    if owner != str(user.pk):
        raise signing.BadSignature("the selection of another user")
    return Selection(where)
