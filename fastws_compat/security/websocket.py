"""A bearer token that a browser can send with a WebSocket."""

from __future__ import annotations

import re

from fastws_compat.exceptions import DeclarationError
from fastws_compat.requests import HTTPConnection
from fastws_compat.security.http import HTTPAuthorizationCredentials, HTTPBearer

SCHEME = re.compile(r"[-!#$%&'*+.^_`|~0-9a-zA-Z]+")  # RFC 9110, 11.1


class WebSocketBearer(HTTPBearer):
    """The token of `new WebSocket(url, ["bearer", token])`, or of an `Authorization: Bearer` header.

    The client offers the marker `subprotocol` and the token as its last two subprotocols; those of the
    application may precede them. `accept()` selects the marker by default, and never the token.
    `scheme` is the word before the token in the header, such as "Token" in Django REST framework.
    """

    def __init__(
        self,
        subprotocol: str = "bearer",
        *,
        scheme: str = "Bearer",
        bearerFormat: str | None = None,
        scheme_name: str | None = None,
        description: str | None = None,
        auto_error: bool = True,
    ) -> None:
        super().__init__(
            bearerFormat=bearerFormat,
            scheme_name=scheme_name,
            description=description,
            auto_error=auto_error,
        )
        if not SCHEME.fullmatch(scheme):
            raise DeclarationError(
                f"WebSocketBearer got the scheme {scheme!r}: pass one word, such as 'Token', without a token."
            )
        #: The scheme of the header: as it was declared, and in lower case.
        self.scheme, self.accepts = scheme, scheme.lower()
        self.model = self.model.model_copy(update={"scheme": self.accepts})
        #: The marker that precedes the token among the subprotocols.
        self.subprotocol = subprotocol

    def make_authenticate_headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": self.scheme}

    async def __call__(self, request: HTTPConnection) -> HTTPAuthorizationCredentials | None:
        offers = offered_subprotocols(request)
        if self.subprotocol not in offers:
            return await super().__call__(request)
        # Also if the token is malformed but optional: a browser closes a socket that selects no offer.
        request.scope["fastws_compat.subprotocol"] = self.subprotocol
        if offers.index(self.subprotocol) != len(offers) - 2 or offers[-1] == self.subprotocol:
            return self.require(None)
        return HTTPAuthorizationCredentials(scheme=self.scheme, credentials=offers[-1])


def offered_subprotocols(connection: HTTPConnection) -> list[str]:
    """The subprotocols that the server parsed, or else those in the header (RFC 6455, 11.3.4)."""
    parsed = connection.scope.get("subprotocols")
    if parsed:
        return list(parsed)
    offers = ",".join(connection.headers.getlist("Sec-WebSocket-Protocol")).split(",")
    return [offer.strip() for offer in offers if offer.strip()]
