"""What all schemes have in common: a name, a description, and a way to fail."""

from __future__ import annotations

from typing import ClassVar, TypeVar

from fastws_compat import status
from fastws_compat.exceptions import HTTPException
from fastws_compat.security import models

T = TypeVar("T")


class SecurityBase:
    """A scheme by any author."""

    model: models.SecurityBase
    scheme_name: str


class Scheme(SecurityBase):
    """A scheme that refuses the handshake with 401 or, with `auto_error` off, gives None."""

    challenge: ClassVar[str] = "Bearer"

    def __init__(self, model: models.SecurityBase, scheme_name: str | None, auto_error: bool) -> None:
        self.model = model
        self.scheme_name = scheme_name or type(self).__name__
        self.auto_error = auto_error

    def make_authenticate_headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": self.challenge}

    def make_not_authenticated_error(self) -> HTTPException:
        """What is raised without credentials; the hook for another status or text."""
        return HTTPException(
            status.HTTP_401_UNAUTHORIZED, "Not authenticated", self.make_authenticate_headers()
        )

    def require(self, credentials: T | None) -> T | None:
        """The credentials; without any the handshake is refused, unless `auto_error` is off."""
        if credentials is None and self.auto_error:
            raise self.make_not_authenticated_error()
        return credentials
