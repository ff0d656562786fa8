"""Responses that refuse a handshake. Django serves HTTP itself."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterable, Iterable, Mapping
from datetime import datetime
from functools import cached_property
from typing import Any, Literal
from urllib.parse import quote

from fastws_compat.background import BackgroundTask
from fastws_compat.concurrency import iterate_in_threadpool
from fastws_compat.datastructures import URL, MutableHeaders
from fastws_compat.types import Message, Receive, Scope, Send

SameSite = Literal["lax", "strict", "none"]
Content = str | bytes | memoryview
SyncContentStream = Iterable[Content]
AsyncContentStream = AsyncIterable[Content]
ContentStream = AsyncContentStream | SyncContentStream


class Response:
    """An HTTP response. Called with a WebSocket scope, it refuses the handshake."""

    #: The media type of the body, for the Content-Type header.
    media_type: str | None = None
    #: The encoding of text in the body.
    charset = "utf-8"

    def __init__(
        self,
        content: Any = None,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
        background: BackgroundTask | None = None,
    ) -> None:
        #: The HTTP status.
        self.status_code = status_code
        if media_type is not None:
            self.media_type = media_type
        #: The task that runs after the response; None if there is none.
        self.background = background
        #: The body in bytes.
        self.body = self.render(content)
        self.init_headers(headers)

    def render(self, content: Any) -> bytes | memoryview:
        """Return the body for `content`; a subclass overrides it for another format."""
        if content is None:
            return b""
        if isinstance(content, memoryview):
            return content.cast("B") if content.c_contiguous else content.tobytes()
        if isinstance(content, bytes):
            return content
        encoded: bytes = content.encode(self.charset)
        return encoded

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """Set `raw_headers`: the given headers, plus Content-Length and Content-Type unless given."""
        given = MutableHeaders(headers or {})
        self.raw_headers = given.raw
        body = getattr(self, "body", None)
        if body is not None and self._may_have_body() and "content-length" not in given:
            given.append("content-length", str(len(body)))
        if self.media_type is not None and "content-type" not in given:
            given.append("content-type", self._content_type(self.media_type))

    def _may_have_body(self) -> bool:
        return self.status_code >= 200 and self.status_code not in (204, 304)

    def _content_type(self, media_type: str) -> str:
        if media_type.startswith("text/") and "charset=" not in media_type.lower():
            return f"{media_type}; charset={self.charset}"
        return media_type

    @cached_property
    def headers(self) -> MutableHeaders:
        """The headers, which can be changed until the response is sent."""
        return MutableHeaders(raw=self.raw_headers)

    def set_cookie(
        self,
        key: str,
        value: str = "",
        max_age: int | None = None,
        expires: datetime | str | int | None = None,
        path: str | None = "/",
        domain: str | None = None,
        secure: bool = False,
        httponly: bool = False,
        samesite: SameSite | None = "lax",
        partitioned: bool = False,
    ) -> None:
        """Add a Set-Cookie header. `expires` is a UTC date or a number of seconds from now."""
        if samesite is not None and samesite.lower() not in ("strict", "lax", "none"):
            raise AssertionError("samesite must be either 'strict', 'lax' or 'none'")
        if partitioned and sys.version_info < (3, 14):
            raise ValueError("Partitioned cookies are only supported in Python 3.14 and above.")
        attributes = {
            "max-age": max_age,
            "expires": _http_date(expires) if isinstance(expires, datetime) else expires,
            "path": path,
            "domain": domain,
            "secure": secure or None,
            "httponly": httponly or None,
            "samesite": samesite,
            "partitioned": partitioned or None,
        }
        self.raw_headers.append((b"set-cookie", _cookie(key, value, attributes).encode("latin-1")))

    def delete_cookie(
        self,
        key: str,
        path: str = "/",
        domain: str | None = None,
        secure: bool = False,
        httponly: bool = False,
        samesite: SameSite | None = "lax",
        partitioned: bool = False,
    ) -> None:
        """Add a Set-Cookie header that deletes a cookie that was set with the same path and domain."""
        self.set_cookie(key, "", 0, 0, path, domain, secure, httponly, samesite, partitioned)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
        await send({"type": f"{kind}.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": f"{kind}.body", "body": self.body})
        if self.background is not None:
            await self.background()


def _cookie(key: str, value: str, attributes: Mapping[str, Any]) -> str:
    """The value of a Set-Cookie header."""
    from http.cookies import SimpleCookie  # slow to import, and few responses set a cookie

    cookie: SimpleCookie = SimpleCookie()
    cookie[key] = value
    cookie[key].update({name: value for name, value in attributes.items() if value is not None})
    return cookie.output(header="").strip()


def _http_date(moment: datetime) -> str:
    from email.utils import format_datetime  # slow to import, and rarely used

    return format_datetime(moment, usegmt=True)


class HTMLResponse(Response):
    """A refusal with an HTML page."""

    media_type = "text/html"


class PlainTextResponse(Response):
    """A refusal with plain text."""

    media_type = "text/plain"


class JSONResponse(Response):
    """A refusal with JSON. `content` must consist of JSON types; `jsonable_encoder` converts others."""

    media_type = "application/json"

    def __init__(
        self,
        content: Any,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
        background: BackgroundTask | None = None,
    ) -> None:
        super().__init__(content, status_code, headers, media_type, background)

    def render(self, content: Any) -> bytes:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8")


class RedirectResponse(Response):
    """A refusal with another URL. Browsers do not follow redirects of a socket; other clients may."""

    def __init__(
        self,
        url: str | URL,
        status_code: int = 307,
        headers: Mapping[str, str] | None = None,
        background: BackgroundTask | None = None,
    ) -> None:
        super().__init__(b"", status_code, headers, background=background)
        self.headers["location"] = quote(str(url), safe=":/%#?=@[]!$&'()*+,;")


class StreamingResponse(Response):
    """A refusal with a streamed body, from an async iterable or from a sync one that is read in a thread."""

    def __init__(
        self,
        content: ContentStream,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
        background: BackgroundTask | None = None,
    ) -> None:
        #: The parts of the body.
        self.body_iterator: AsyncContentStream = (
            content if isinstance(content, AsyncIterable) else iterate_in_threadpool(content)
        )
        #: The HTTP status.
        self.status_code = status_code
        if media_type is not None:
            self.media_type = media_type
        #: The task that runs after the response; None if there is none.
        self.background = background
        self.init_headers(headers)

    async def stream_response(self, send: Send) -> None:
        """Send the status, the headers and each part of the body."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for chunk in self.body_iterator:
            body = chunk.encode(self.charset) if isinstance(chunk, str) else chunk
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.stream_response(_denying(send) if scope["type"] == "websocket" else send)
        if self.background is not None:
            await self.background()


def _denying(send: Send) -> Send:
    """Wrap `send` so that the messages of an HTTP response refuse a handshake."""

    async def deny(message: Message) -> None:
        await send({**message, "type": f"websocket.{message['type']}"})

    return deny
