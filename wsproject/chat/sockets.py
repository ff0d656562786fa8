"""The chat's socket and its messages. Like `admin.py`, this module is found by its name."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from channels.db import database_sync_to_async
from pydantic import AliasPath, BaseModel, ConfigDict, Field, StringConstraints

from fastws_compat import Call, Depends, HTTPException, Reply, TypedWebSocket, status, websocket
from fastws_compat.exceptions import GroupSendError
from fastws_compat.groups import Group
from wsproject.access import Member

from .models import MAX_TEXT, Room

PAGE = 100
Number = Annotated[int, Field(ge=0, le=2**31 - 1)]
# No database stores the character zero in all of its texts.
Text = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_TEXT, pattern=r"^[^\x00]*$")
]


class Said(BaseModel):
    """A message in the room."""

    model_config = ConfigDict(from_attributes=True)

    type: Literal["said"] = "said"
    number: int
    key: UUID
    user: Annotated[str, Field(validation_alias=AliasPath("author", "username"))]
    text: str
    sent_at: datetime


class History(BaseModel):
    """A page of messages, oldest first; `done` marks the last page."""

    type: Literal["history"] = "history"
    messages: list[Said]
    done: bool


class SomeoneTypes(BaseModel):
    """A member is writing a message."""

    type: Literal["typing"] = "typing"
    user: str


class Posted(Reply):
    """The receipt for a posted message."""

    type: Literal["posted"] = "posted"
    message: Said


class Post(Call[Posted]):
    """A message to post; `key` makes it safe to send it twice."""

    type: Literal["post"] = "post"
    key: UUID
    text: Text


class Recall(BaseModel):
    """A request for the messages after number `after`."""

    type: Literal["recall"] = "recall"
    after: Number


class Typing(BaseModel):
    """The user is writing a message."""

    type: Literal["typing"] = "typing"


Socket = TypedWebSocket[Post | Recall | Typing, Said | History | SomeoneTypes | Posted]


class Feed(Group[Said | SomeoneTypes]):
    """What every tab in a room receives."""

    def __init__(self, room: Room) -> None:
        super().__init__(f"chat.{room.pk}")

    async def announce(self, message: Said | SomeoneTypes) -> None:
        """Send to the whole room. A client that misses a message sees the gap and requests the history."""
        with suppress(GroupSendError):  # the library has already logged that the channel layer failed
            await self.asend(message)


def get_room(slug: str, _: Member) -> Room:
    room = Room.objects.filter(slug=slug).first()
    if room is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "No such room.")
    return room


CurrentRoom = Annotated[Room, Depends(get_room)]


async def send_history(websocket: Socket, room: Room, after: int) -> None:
    """Send the messages after number `after` in pages, oldest first, or the last page if `after` is 0."""
    after = after or max(0, room.last_number - PAGE)
    while True:
        later = room.messages.select_related("author").filter(number__gt=after)[:PAGE]
        page = [Said.model_validate(message) async for message in later]
        done = len(page) < PAGE
        await websocket.send_message(History(messages=page, done=done))
        if done:
            return
        after = page[-1].number


@websocket("/ws/chat/{slug}", heartbeat=True)
async def chat(websocket: Socket, room: CurrentRoom, user: Member, after: Number = 0) -> None:
    """A tab in a room: first the messages after number `after`, then each new message."""
    feed = Feed(room)
    await websocket.accept()
    await websocket.join(feed, presence={"name": user.get_username()})
    await send_history(websocket, room, after)
    async for message in websocket:
        match message:
            case Post():
                saved, is_new = await database_sync_to_async(room.post)(user, message.key, message.text)
                said = Said.model_validate(saved)
                await websocket.reply(message, Posted(message=said))
                if is_new:
                    await feed.announce(said)
            case Recall():
                await send_history(websocket, room, message.after)
            case Typing():
                await feed.announce(SomeoneTypes(user=user.get_username()))
