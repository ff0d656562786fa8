"""The schemes of the Authorization header (RFC 9110, 11): Basic, Bearer, Digest, or any."""

from __future__ import annotations

from base64 import b64decode

from pydantic import BaseModel

from fastws_compat.requests import HTTPConnection
from fastws_compat.security import models
from fastws_compat.security.base import Scheme
from fastws_compat.security.utils import read_authorization


class HTTPBasicCredentials(BaseModel):
    """The credentials that `HTTPBasic` gives."""

    #: The user name.
    username: str
    #: The password.
    password: str

    def __sentry_repr__(self) -> str:
        return f"<{type(self).__name__}>"


class HTTPAuthorizationCredentials(BaseModel):
    """The credentials that the other schemes give: both parts of the header, as the client wrote them."""

    #: The scheme, as the client wrote it.
    scheme: str
    #: What follows the scheme, such as a token.
    credentials: str

    def __sentry_repr__(self) -> str:
        return f"<{type(self).__name__}>"


class HTTPBase(Scheme):
    """Credentials of any scheme. `scheme` is used only in the challenge."""

    model: models.HTTPBase
    #: The scheme that the header must have, in lower case; None accepts any.
    accepts: str | None = None

    def __init__(
        self,
        *,
        scheme: str,
        scheme_name: str | None = None,
        description: str | None = None,
        auto_error: bool = True,
    ) -> None:
        super().__init__(models.HTTPBase(scheme=scheme, description=description), scheme_name, auto_error)

    def make_authenticate_headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": self.model.scheme.title()}

    async def __call__(self, request: HTTPConnection) -> HTTPAuthorizationCredentials | None:
        scheme, credentials = read_authorization(request, self.accepts) or ("", "")
        if not credentials:
            return self.require(None)
        return HTTPAuthorizationCredentials(scheme=scheme, credentials=credentials)


class HTTPBasic(HTTPBase):
    """A user name and password. Malformed credentials are refused even if `auto_error` is off."""

    def __init__(
        self,
        *,
        scheme_name: str | None = None,
        realm: str | None = None,
        description: str | None = None,
        auto_error: bool = True,
    ) -> None:
        super().__init__(
            scheme="basic", scheme_name=scheme_name, description=description, auto_error=auto_error
        )
        #: The realm that the challenge names; None for none.
        self.realm = realm

    def make_authenticate_headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": f'Basic realm="{self.realm}"' if self.realm else "Basic"}

    async def __call__(  # type: ignore[override]
        self, request: HTTPConnection
    ) -> HTTPBasicCredentials | None:
        authorization = self.require(read_authorization(request, "basic"))
        if authorization is None:
            return None
        try:
            username, colon, password = b64decode(authorization[1]).decode("ascii").partition(":")
        except ValueError as error:
            raise self._refusal() from error
        if not colon:
            raise self._refusal()
        return HTTPBasicCredentials(username=username, password=password)


class HTTPBearer(HTTPBase):
    """A bearer token (RFC 6750). Browsers cannot send this header: see `WebSocketBearer`."""

    accepts = "bearer"

    def __init__(
        self,
        *,
        bearerFormat: str | None = None,
        scheme_name: str | None = None,
        description: str | None = None,
        auto_error: bool = True,
    ) -> None:
        model = models.HTTPBearer(bearerFormat=bearerFormat, description=description)
        Scheme.__init__(self, model, scheme_name, auto_error)


class HTTPDigest(HTTPBase):
    """Digest credentials (RFC 7616), which a subclass must check."""

    accepts = "digest"

    def __init__(
        self,
        *,
        scheme_name: str | None = None,
        description: str | None = None,
        auto_error: bool = True,
    ) -> None:
        super().__init__(
            scheme="digest", scheme_name=scheme_name, description=description, auto_error=auto_error
        )
