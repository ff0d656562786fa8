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
 │         ├── GroupKindError           a group does not keep what is asked for
 │         ├── GroupSendError           a channel layer failed
 │         ├── GroupStoreError          what a group keeps could not be read
 │         └── PydanticV1NotSupportedError
 └── ValueError
      └── GroupNameError
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypedDict

# The same as `http.client.responses`, whose import would load the email package and ssl.
PHRASES: dict[int, str] = {status.value: status.phrase for status in HTTPStatus}


class EndpointContext(TypedDict, total=False):
    """The location of an endpoint in the source, for errors."""

    #: The name of the endpoint.
    function: str
    #: The path of its route.
    path: str
    #: The file that defines it.
    file: str
    #: The line of its definition.
    line: int


class HTTPException(Exception):
    """Refuse the handshake with an HTTP status, or close an accepted socket with 4000 + status.

    The client finds `detail` under the key "detail"; by default it is the standard phrase of the status.
    """

    # Why the handshake is refused, as metrics and logs name it (`connections.outcomes.Reason`).
    _refusal = "endpoint"

    def __init__(
        self, status_code: int, detail: Any = None, headers: Mapping[str, str] | None = None
    ) -> None:
        #: The HTTP status of the refusal; after accept, the close code is 4000 more.
        self.status_code = status_code
        #: What the client is told: the body of a refusal or the reason of the close frame.
        self.detail = PHRASES.get(status_code, "") if detail is None else detail
        #: Further headers of the refusal.
        self.headers = headers

    def __str__(self) -> str:
        return f"{self.status_code}: {self.detail}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}(status_code={self.status_code!r}, detail={self.detail!r})"


class WebSocketException(Exception):
    """Close the socket with `code` (RFC 6455, 7.4) and `reason`, or refuse the handshake before accept."""

    _refusal = "endpoint"

    def __init__(self, code: int, reason: str | None = None) -> None:
        #: The close code.
        self.code = code
        #: The reason in the close frame.
        self.reason = reason or ""

    def __str__(self) -> str:
        return f"{self.code}: {self.reason}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}(code={self.code!r}, reason={self.reason!r})"


class FastAPIError(RuntimeError):
    """The base class of errors that the library itself raises."""


class DeclarationError(FastAPIError):
    """A route, endpoint or parameter is declared in a way that cannot work; raised at import."""


class PositionalOnlyError(DeclarationError, TypeError):
    """A parameter cannot be passed by name. Also a TypeError, which calling it would raise."""


class DependencyScopeError(FastAPIError):
    """A dependency with scope "request" depends on one with scope "function", which ends earlier."""


class GroupSendError(FastAPIError):
    """The channel layer failed, or timed out, when a message was sent to a group."""


class GroupStoreError(FastAPIError):
    """The store failed, or timed out, when the history or the state of a group was read."""


class GroupKindError(FastAPIError):
    """A group was asked for what its kind does not have, or a kind is declared in a way that is not valid."""


class GroupNameError(ValueError):
    """The name of a group is not valid."""


class PydanticV1NotSupportedError(FastAPIError):
    """A `pydantic.v1` model was used where a pydantic v2 model is needed."""


class FastAPIDeprecationWarning(UserWarning):
    """FastAPI has deprecated this option. It is a `UserWarning`, which Python shows by default."""


class StarletteDeprecationWarning(UserWarning):
    """Starlette has deprecated this name. It is a `UserWarning`, which Python shows by default."""


class ValidationException(Exception):
    """The data that a client sent is not valid for the endpoint; `errors()` lists what is wrong."""

    def __init__(self, errors: Sequence[Any], *, endpoint_ctx: EndpointContext | None = None) -> None:
        self._errors = errors
        #: Where the endpoint is, if it is known.
        self.endpoint_ctx = endpoint_ctx
        context = endpoint_ctx or EndpointContext()
        #: The name of the endpoint.
        self.endpoint_function = context.get("function")
        #: The path of its route.
        self.endpoint_path = context.get("path")
        #: The file that defines it.
        self.endpoint_file = context.get("file")
        #: The line of its definition.
        self.endpoint_line = context.get("line")

    def errors(self) -> Sequence[Any]:
        """Return the errors as pydantic lists them."""
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
    """The form of the error for HTTP, so that handlers written for both protocols still work."""

    def __init__(
        self, errors: Sequence[Any], *, body: Any = None, endpoint_ctx: EndpointContext | None = None
    ) -> None:
        super().__init__(errors, endpoint_ctx=endpoint_ctx)
        #: The body that was validated; a handshake has none.
        self.body = body


class WebSocketRequestValidationError(ValidationException):
    """A path, query, header or cookie value of the handshake is not valid; the socket closes with 1008."""

    _refusal = "invalid"


class ResponseValidationError(ValidationException):
    """The form of the error for HTTP responses; never raised here."""

    def __init__(
        self, errors: Sequence[Any], *, body: Any = None, endpoint_ctx: EndpointContext | None = None
    ) -> None:
        super().__init__(errors, endpoint_ctx=endpoint_ctx)
        #: What should have been sent.
        self.body = body
