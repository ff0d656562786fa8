"""A bearer token that a browser can send with a WebSocket."""

from __future__ import annotations

from fastws_compat.requests import HTTPConnection
from fastws_compat.security.http import HTTPAuthorizationCredentials, HTTPBearer


class WebSocketBearer(HTTPBearer):
    """The token of `new WebSocket(url, ["bearer", token])`, or of an `Authorization: Bearer` header.

    The marker `subprotocol` is offered last but one and the token last; protocols of the application
    may come before. `accept()` selects the marker unless told otherwise, never the token.
    """

    def __init__(
        self,
        subprotocol: str = "bearer",
        *,
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
        self.subprotocol = subprotocol

    async def __call__(self, request: HTTPConnection) -> HTTPAuthorizationCredentials | None:
        offers = offered_subprotocols(request)
        if self.subprotocol not in offers:
            return await super().__call__(request)
        # Also when the token is malformed but optional: a browser drops a socket that selects no offer.
        request.scope["fastws_compat.subprotocol"] = self.subprotocol
        if offers.index(self.subprotocol) != len(offers) - 2 or offers[-1] == self.subprotocol:
            return self.require(None)
        return HTTPAuthorizationCredentials(scheme="Bearer", credentials=offers[-1])


def offered_subprotocols(connection: HTTPConnection) -> list[str]:
    """What the server parsed, else what the header says (RFC 6455, 11.3.4)."""
    parsed = connection.scope.get("subprotocols")
    if parsed:
        return list(parsed)
    offers = ",".join(connection.headers.getlist("Sec-WebSocket-Protocol")).split(",")
    return [offer.strip() for offer in offers if offer.strip()]
