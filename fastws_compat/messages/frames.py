"""The messages that the library itself knows: errors, calls and their replies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field, StrictInt, StrictStr

if TYPE_CHECKING:
    Id = str | int
else:
    from typing_extensions import TypeAliasType

    # Named, so that schemas refer to it; strict, because `true` is not a number that a client chose.
    Id = TypeAliasType("Id", StrictStr | StrictInt)

ERROR = "error"


class ErrorFrame(BaseModel):
    """The answer to a message that was refused: what was wrong, as an HTTP status and FastAPI's `detail`.

    `id` is that of the call or message that caused the error; a frame without one does not have the key.
    """

    #: Always `error`, which tells the frame from other messages.
    type: Literal["error"] = "error"
    #: The HTTP status for what was wrong, such as 422 for an invalid message.
    status: int
    #: What was wrong, as FastAPI's `detail`.
    detail: Any = None
    #: The id of the call or message that caused the error; None if it has none.
    id: Id | None = None


class Reply(BaseModel):
    """The answer to a `Call`. `WebSocket.reply` fills in `id`, which is that of the call."""

    #: The id of the call, which `WebSocket.reply` fills in.
    id: Id = Field(default="", alias="id")  # no alias generator of a project renames it


ReplyT = TypeVar("ReplyT", bound=Reply)


class Call(BaseModel, Generic[ReplyT]):
    """A message that requests a reply of the class in brackets. The client chooses `id`."""

    #: What the client chose to recognize the reply by.
    id: Id = Field(alias="id")
