"""The chat's socket and its messages. Like `admin.py`, this module is found by its name."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Annotated, Literal

from channels.db import database_sync_to_async
from pydantic import AliasPath, BaseModel, ConfigDict, Field, StringConstraints

from fastws_compat import Depends, HTTPException, TypedWebSocket, WebSocketException, status, websocket
from fastws_compat.exceptions import GroupSendError
from fastws_compat.groups import Group
from wsproject.access import Member

from .models import MAX_KEY, MAX_TEXT, Room

RECENT = 100
Key = Annotated[str, StringConstraints(min_length=1, max_length=MAX_KEY, pattern=r"^[\w-]+$")]
# No database stores the character zero in all of its texts.
Text = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_TEXT, pattern=r"^[^\x00]*$")
]


class Said(BaseModel):
    """A message in the room."""

    model_config = ConfigDict(from_attributes=True)

    type: Literal["said"] = "said"
    id: int
    key: str
    user: Annotated[str, Field(validation_alias=AliasPath("author", "username"))]
    text: str
    sent_at: datetime


class SomeoneTypes(BaseModel):
    """A member is writing a message."""

    type: Literal["typing"] = "typing"
    user: str


class Post(BaseModel):
    """A message to post; `key` makes it safe to send it twice."""

    type: Literal["post"] = "post"
    key: Key
    text: Text


class Typing(BaseModel):
    """The user is writing a message."""

    type: Literal["typing"] = "typing"


Socket = TypedWebSocket[Post | Typing, Said | SomeoneTypes]


def room_group(room: Room) -> Group[Said]:
    """What is said in a room. The settings give it a history, and count who is present."""
    return Group[Said](f"chat.{room.pk}")


def typing_group(room: Room) -> Group[SomeoneTypes]:
    """Who is typing in a room. This group keeps nothing: a tab that reconnects need not know."""
    return Group[SomeoneTypes](f"typing.{room.pk}")


def recent(room: Room) -> list[dict[str, object]]:
    """Return the newest messages of a room, oldest first, in the form in which the group sends them."""
    newest = room.messages.select_related("author").order_by("-pk")[:RECENT]
    return [Said.model_validate(message).model_dump(mode="json") for message in newest][::-1]


def get_room(slug: str, _: Member) -> Room:
    room = Room.objects.filter(slug=slug).first()
    if room is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "No such room.")
    return room


CurrentRoom = Annotated[Room, Depends(get_room)]


@websocket("/ws/chat/{slug}", heartbeat=True)
async def chat(websocket: Socket, room: CurrentRoom, user: Member) -> None:
    """A tab in a room. Joining delivers what a tab that reconnects has missed."""
    await websocket.accept()
    await websocket.join(room_group(room), presence={"name": user.get_username()})
    await websocket.join(typing_group(room))
    async for message in websocket:
        match message:
            case Post():
                saved = await database_sync_to_async(room.post)(user, message.key, message.text)
                await announce(room, Said.model_validate(saved))
            case Typing():
                with suppress(GroupSendError):  # the library has already logged that the channel layer failed
                    await typing_group(room).asend(SomeoneTypes(user=user.get_username()), exclude=websocket)


async def announce(room: Room, said: Said) -> None:
    """Send a saved message to the room, unless it has been sent already."""
    try:
        await room_group(room).asend(said, key=said.key)
    except GroupSendError as error:
        # The page reconnects and posts again, and the key keeps the message from being saved or shown twice.
        raise WebSocketException(status.WS_1013_TRY_AGAIN_LATER, "The message was not delivered.") from error
