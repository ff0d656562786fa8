"""The exception for a handshake that was refused with an HTTP response."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable
from email.message import Message as MimeHeaders
from http.cookies import SimpleCookie
from typing import Any

from fastws_compat.datastructures import Headers
from fastws_compat.websockets import WebSocketDisconnect


class WebSocketDenialResponse(WebSocketDisconnect):
    """Raised when the handshake is refused with an HTTP response; holds its status, headers and content."""

    def __init__(
        self,
        status_code: int,
        *,
        headers: Iterable[tuple[bytes, bytes]] = (),
        content: bytes = b"",
    ) -> None:
        super().__init__(code=1006)  # the code that a browser reports
        #: The HTTP status.
        self.status_code = status_code
        #: The headers of the response.
        self.headers = Headers(raw=[(name.lower(), value) for name, value in headers])
        #: The body in bytes.
        self.content = content

    @property
    def reason_phrase(self) -> str:
        """The phrase of the status, such as "Forbidden"."""
        return http.client.responses.get(self.status_code, "")

    @property
    def is_success(self) -> bool:
        """Whether the status is between 200 and 299."""
        return 200 <= self.status_code < 300

    @property
    def is_error(self) -> bool:
        """Whether the status is between 400 and 599."""
        return 400 <= self.status_code < 600

    @property
    def text(self) -> str:
        """The body as text."""
        mime = MimeHeaders()
        mime["content-type"] = self.headers.get("content-type", "")
        return self.content.decode(mime.get_content_charset("utf-8"), errors="replace")

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies that the refusal sets."""
        jar = SimpleCookie()
        for value in self.headers.getlist("set-cookie"):
            jar.load(value)
        return {name: morsel.value for name, morsel in jar.items()}

    def json(self) -> Any:
        """Return the body, parsed as JSON."""
        return json.loads(self.content)

    def __str__(self) -> str:
        return f"{self.status_code} {self.reason_phrase}"
