"""The base of all schemes: a name, a description, and the error for missing credentials."""

from __future__ import annotations

from typing import ClassVar, TypeVar

from fastws_compat import status
from fastws_compat.exceptions import HTTPException
from fastws_compat.security import models

T = TypeVar("T")


class SecurityBase:
    """The base class of schemes, also of those outside this package."""

    #: The description of the scheme, for documents and for subclasses.
    model: models.SecurityBase
    #: The name of the scheme in documents.
    scheme_name: str


class Scheme(SecurityBase):
    """A scheme that refuses the handshake with 401, or gives None if `auto_error` is off."""

    #: The scheme that the WWW-Authenticate header names.
    challenge: ClassVar[str] = "Bearer"

    def __init__(self, model: models.SecurityBase, scheme_name: str | None, auto_error: bool) -> None:
        self.model = model
        self.scheme_name = scheme_name or type(self).__name__
        #: Whether missing credentials refuse the handshake.
        self.auto_error = auto_error

    def make_authenticate_headers(self) -> dict[str, str]:
        """The headers of a refusal, which name the scheme."""
        return {"WWW-Authenticate": self.challenge}

    def make_not_authenticated_error(self) -> HTTPException:
        """The exception for missing credentials. Override it for another status or text."""
        return HTTPException(
            status.HTTP_401_UNAUTHORIZED, "Not authenticated", self.make_authenticate_headers()
        )

    def _refusal(self) -> HTTPException:
        """The exception to raise, with its reason for metrics and logs."""
        error = self.make_not_authenticated_error()
        # A subclass may return any exception.
        error._refusal = "login" if getattr(error, "status_code", 403) == 401 else "forbidden"
        return error

    def require(self, credentials: T | None) -> T | None:
        """The credentials. If there are none, refuse the handshake unless `auto_error` is off."""
        if credentials is None and self.auto_error:
            raise self._refusal()
        return credentials
