"""Invalid messages: the exception, and the error frame that answers them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json, to_json, to_jsonable_python

from fastws_compat.connections.closing import as_text
from fastws_compat.exceptions import ValidationException
from fastws_compat.messages.frames import ERROR, ErrorFrame

# By the status in an error frame, the code that closes the socket instead, and the reason.
CLOSE_CODES = {400: 1007, 415: 1003, 422: 4422}
REASONS = {400: "the message is not JSON", 415: "the wrong kind of frame", 422: "the message does not fit"}
NOT_JSON, WRONG_FRAME, MISFIT = CLOSE_CODES

# The limits of an error frame: its bytes, the items of its detail, and the characters of each text in it.
MAX_FRAME, MAX_ITEMS, MAX_TEXT = 2048, 5, 200
# A message with more errors gets no list of them: that of a million empty items takes seconds, and gigabytes.
MAX_ERRORS = 1000
# How much of a location is shown in a frame that would be too big otherwise.
MAX_LOC = 6
PLAIN = frozenset({type(None), bool, int, float})
# Characters of an id that is echoed.
MAX_ID = 64


class MessageValidationError(ValidationException):
    """A client sent a message that is not valid for the types of its route.

    `body` is the received frame, `status` the status of its error frame (400, 415 or 422), and `close_code`
    the code that closes the socket if the exception is not handled.
    """

    #: Handlers of an application get it instead of an answer, not when it leaves the endpoint.
    is_unanswered = True

    def __init__(self, errors: Sequence[Any], *, body: str | bytes, status: int = MISFIT) -> None:
        super().__init__(errors)
        #: The frame that the client sent.
        self.body = body
        #: The HTTP status of the answer: 400, 415 or 422.
        self.status = status
        #: The close code that means the same.
        self.close_code = CLOSE_CODES[status]

    @property
    def detail(self) -> Any:
        """The `detail` of the frame that answers: a text, or the list of errors."""
        return list(self._errors) if self.status == MISFIT else self._errors[0]["msg"]


def not_json(body: str | bytes, message: str) -> MessageValidationError:
    error = {"type": "json_invalid", "loc": ("message",), "msg": message}
    return MessageValidationError([error], body=body, status=NOT_JSON)


def wrong_frame(body: str | bytes, message: str) -> MessageValidationError:
    error = {"type": "frame_type", "loc": ("message",), "msg": message}
    return MessageValidationError([error], body=body, status=WRONG_FRAME)


def misfit(exc: ValidationError, body: str | bytes, *, is_json: bool) -> MessageValidationError:
    """What pydantic found wrong with a frame."""
    if (count := exc.error_count()) > MAX_ERRORS:
        error = {"type": "too_many_errors", "loc": ("message",), "msg": f"The message has {count} errors"}
        return MessageValidationError([error], body=body)
    errors: list[Any] = exc.errors(include_url=False, include_context=False, include_input=False)
    for error in errors:
        error["loc"] = ("message", *error["loc"])
    if is_json and _is_of_syntax(errors[0]):
        return not_json(body, errors[0]["msg"])
    return MessageValidationError(errors, body=body)


def _is_of_syntax(error: dict[str, Any]) -> bool:
    """Whether an error is about the whole frame, because it is not JSON."""
    return error["type"] in ("json_invalid", "string_unicode") and len(error["loc"]) == 1


def parsed(body: str | bytes) -> Mapping[str, Any]:
    """The object in a frame; empty for any other frame."""
    try:
        value = from_json(body)
    except (ValueError, TypeError):  # a TypeError for half a surrogate pair
        return {}
    return value if isinstance(value, dict) else {}


def id_of(value: Any) -> str | int | None:
    """The id that an answer echoes, if its form is valid; None without one."""
    if type(value) is str:
        return value if len(value) <= MAX_ID else None
    return value if type(value) is int and abs(value) < 10**MAX_ID else None


# Frames


def error_frame(
    kind: type[ErrorFrame], tag: str, status: int, detail: Any, id: str | int | None = None
) -> str:
    """The text of an error frame: JSON of at most 2,048 bytes."""
    detail = shortened(detail)
    text = _text(kind, tag, status, detail, id)
    while len(text) > MAX_FRAME and detail:
        detail = _shorter(detail)
        text = _text(kind, tag, status, detail, id)
    return text.decode()


def shortened(detail: Any) -> Any:
    """`detail` as JSON's own types: at most five items, and long texts cut."""
    if isinstance(detail, list | tuple):
        return [_cut(item) for item in detail[:MAX_ITEMS]]
    return _cut(detail)


def _text(kind: type[ErrorFrame], tag: str, status: int, detail: Any, id: str | int | None) -> bytes:
    if kind is not ErrorFrame:
        frame = kind(status=status, detail=detail, id=id)
        exclude = {"id"} if id is None else None
        return kind.__pydantic_serializer__.to_json(frame, by_alias=True, exclude=exclude)
    plain: dict[str, Any] = {tag: ERROR, "status": status, "detail": detail}
    if id is not None:
        plain["id"] = id
    return to_json(plain, inf_nan_mode="null")


def _cut(value: Any) -> Any:
    kind = type(value)
    if kind is str:
        return value if len(value) <= MAX_TEXT and value.isascii() else _cut_text(value)
    if kind in PLAIN:
        return value
    if kind is dict:
        return {_cut(key if type(key) is str else str(key)): _cut(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return [_cut(item) for item in value]
    # One step closer to JSON's own types: a model, a date, lazy text.
    return _cut(to_jsonable_python(value, fallback=as_text, inf_nan_mode="null"))


def _cut_text(text: str) -> str:
    text = text if text.isascii() else as_text(text)  # half a surrogate pair cannot be sent
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"


def _shorter(detail: Any) -> Any:
    """A shorter detail: fewer items, then less of the last one, then a text."""
    if isinstance(detail, str):
        return detail[: len(detail) // 2]
    if isinstance(detail, list) and len(detail) > 1:
        return detail[:-1]
    return _with_short_loc(detail) or _cut_text(as_text(detail))


def _with_short_loc(detail: Any) -> Any:
    """A list of one error, which names only the beginning of its location; None for anything else."""
    match detail:
        case [{"loc": [_, *_] as loc} as error] if len(loc) > MAX_LOC:
            return [{**error, "loc": loc[:MAX_LOC]}]
    return None
