"""Every exception of the library.

Exception
 ├── HTTPException                      refuse a handshake with a status
 ├── WebSocketException                 close with a code
 ├── ValidationException
 │    ├── RequestValidationError
 │    ├── WebSocketRequestValidationError
 │    └── ResponseValidationError
 ├── RuntimeError
 │    └── FastAPIError
 │         ├── DeclarationError         a mistake found at import
 │         ├── DependencyScopeError
 │         ├── GroupSendError           a channel layer failed
 │         └── PydanticV1NotSupportedError
 └── ValueError
      └── GroupNameError
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypedDict

# `http.client.responses`, which would bring the email package and ssl.
PHRASES: dict[int, str] = {status.value: status.phrase for status in HTTPStatus}


class EndpointContext(TypedDict, total=False):
    """Where the endpoint that an error belongs to is written."""

    function: str
    path: str
    file: str
    line: int


class HTTPException(Exception):
    """Refuse the handshake with an HTTP status, or close an accepted socket with 4000 + status.

    `detail` is what the client reads under "detail"; without one it is the phrase of the status.
    """

    def __init__(
        self, status_code: int, detail: Any = None, headers: Mapping[str, str] | None = None
    ) -> None:
        self.status_code = status_code
        self.detail = PHRASES.get(status_code, "") if detail is None else detail
        self.headers = headers

    def __str__(self) -> str:
        return f"{self.status_code}: {self.detail}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}(status_code={self.status_code!r}, detail={self.detail!r})"


class WebSocketException(Exception):
    """Close the socket with `code` (RFC 6455, 7.4) and `reason`; before accept it refuses the handshake."""

    def __init__(self, code: int, reason: str | None = None) -> None:
        self.code = code
        self.reason = reason or ""

    def __str__(self) -> str:
        return f"{self.code}: {self.reason}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}(code={self.code!r}, reason={self.reason!r})"


class FastAPIError(RuntimeError):
    """What the library itself has to complain about."""


class DeclarationError(FastAPIError):
    """A route, endpoint or parameter is written so that it could never work; raised at import."""


class PositionalOnlyError(DeclarationError, TypeError):
    """A parameter cannot be passed by name; a TypeError, as the call would be."""


class DependencyScopeError(FastAPIError):
    """A dependency of scope "request" asks for one of scope "function", which ends before it."""


class GroupSendError(FastAPIError):
    """The channel layer did not take a message for a group, or not in time."""


class GroupNameError(ValueError):
    """This cannot be the name of a group."""


class PydanticV1NotSupportedError(FastAPIError):
    """A `pydantic.v1` model stands where pydantic v2 is needed."""


class FastAPIDeprecationWarning(UserWarning):
    """FastAPI deprecated this option; a `UserWarning` so that it is seen by default."""


class StarletteDeprecationWarning(UserWarning):
    """Starlette deprecated this name; a `UserWarning` so that it is seen by default."""


class ValidationException(Exception):
    """What a client sent does not fit what the endpoint asks for; `errors()` lists every misfit."""

    def __init__(self, errors: Sequence[Any], *, endpoint_ctx: EndpointContext | None = None) -> None:
        self._errors = errors
        self.endpoint_ctx = endpoint_ctx
        context = endpoint_ctx or EndpointContext()
        self.endpoint_function = context.get("function")
        self.endpoint_path = context.get("path")
        self.endpoint_file = context.get("file")
        self.endpoint_line = context.get("line")

    def errors(self) -> Sequence[Any]:
        return self._errors

    def __sentry_repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self._errors)}>"  # the errors repeat what the client sent

    def __str__(self) -> str:
        count = len(self._errors)
        lines = [f"{count} validation error{'' if count == 1 else 's'}:"]
        lines += [f"  {error}" for error in self._errors]
        return "\n".join([*lines, *self._where()]).rstrip()

    def _where(self) -> list[str]:
        if self.endpoint_file and self.endpoint_line and self.endpoint_function:
            place = f'  File "{self.endpoint_file}", line {self.endpoint_line}, in {self.endpoint_function}'
            path = [f"    {self.endpoint_path}"] if self.endpoint_path else []
            return ["", place, *path]
        return ["", f"  Endpoint: {self.endpoint_path}"] if self.endpoint_path else []


class RequestValidationError(ValidationException):
    """The HTTP form of the error; here so that handlers written for both keep working."""

    def __init__(
        self, errors: Sequence[Any], *, body: Any = None, endpoint_ctx: EndpointContext | None = None
    ) -> None:
        super().__init__(errors, endpoint_ctx=endpoint_ctx)
        self.body = body


class WebSocketRequestValidationError(ValidationException):
    """A handshake carried a path, query, header or cookie value that does not fit; closes with 1008."""


class ResponseValidationError(ValidationException):
    """The HTTP form for responses; never raised here."""

    def __init__(
        self, errors: Sequence[Any], *, body: Any = None, endpoint_ctx: EndpointContext | None = None
    ) -> None:
        super().__init__(errors, endpoint_ctx=endpoint_ctx)
        self.body = body
