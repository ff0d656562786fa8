"""OpenID Connect by its discovery URL."""

from __future__ import annotations

from fastws_compat.requests import HTTPConnection
from fastws_compat.security import models
from fastws_compat.security.base import Scheme


class OpenIdConnect(Scheme):
    """The whole Authorization header, which a subclass must check with the provider."""

    model: models.OpenIdConnect

    def __init__(
        self,
        *,
        openIdConnectUrl: str,
        scheme_name: str | None = None,
        description: str | None = None,
        auto_error: bool = True,
    ) -> None:
        model = models.OpenIdConnect(openIdConnectUrl=openIdConnectUrl, description=description)
        super().__init__(model, scheme_name, auto_error)

    async def __call__(self, request: HTTPConnection) -> str | None:
        return self.require(request.headers.get("Authorization") or None)
