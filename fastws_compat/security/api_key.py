"""API keys in a query parameter, a header or a cookie. An empty key counts as missing."""

from __future__ import annotations

from typing import ClassVar

from fastws_compat.requests import HTTPConnection
from fastws_compat.security.base import Scheme
from fastws_compat.security.models import APIKey, APIKeyIn


class APIKeyBase(Scheme):
    """An API key somewhere in the handshake."""

    challenge = "APIKey"
    #: Where the key is sent.
    location: ClassVar[APIKeyIn]
    model: APIKey

    def __init__(
        self,
        *,
        name: str,
        scheme_name: str | None = None,
        description: str | None = None,
        auto_error: bool = True,
    ) -> None:
        model = APIKey(in_=self.location, name=name, description=description)
        super().__init__(model, scheme_name, auto_error)

    def check_api_key(self, api_key: str | None) -> str | None:
        """Return the key. Without one, refuse the handshake unless `auto_error` is off."""
        return self.require(api_key or None)


class APIKeyQuery(APIKeyBase):
    """A key in the query parameter `name`. Servers log the query string, so prefer a header."""

    location = APIKeyIn.query

    async def __call__(self, request: HTTPConnection) -> str | None:
        return self.check_api_key(request.query_params.get(self.model.name))


class APIKeyHeader(APIKeyBase):
    """A key in the header `name`."""

    location = APIKeyIn.header

    async def __call__(self, request: HTTPConnection) -> str | None:
        return self.check_api_key(request.headers.get(self.model.name))


class APIKeyCookie(APIKeyBase):
    """A key in the cookie `name`. Browsers send it from any page, so check the origin too."""

    location = APIKeyIn.cookie

    async def __call__(self, request: HTTPConnection) -> str | None:
        return self.check_api_key(request.cookies.get(self.model.name))
