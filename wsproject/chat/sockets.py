"""The chat's socket. Like `admin.py`, this module is found by its name."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any, Literal
from uuid import UUID

from channels.db import database_sync_to_async
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from fastws_compat import Depends, HTTPException, Query, WebSocket, status, websocket
from fastws_compat.exceptions import GroupSendError
from fastws_compat.groups import Group
from wsproject.access import Member

from .models import MAX_TEXT, Room

PAGE = 100
LAST_NUMBER = 2**31 - 1


class Post(BaseModel):
    """A message to post; `key` makes it safe to send it twice."""

    type: Literal["message"]
    key: UUID
    text: str


class Recall(BaseModel):
    """A request for the messages after number `after`."""

    type: Literal["history"]
    after: Annotated[int, Field(ge=0, le=LAST_NUMBER)]


class Typing(BaseModel):
    type: Literal["typing"]


class Ping(BaseModel):
    type: Literal["ping"]


Frame = Post | Recall | Typing | Ping
frames: TypeAdapter[Frame] = TypeAdapter(Annotated[Frame, Field(discriminator="type")])


def get_room(slug: str, _: Member) -> Room:
    room = Room.objects.filter(slug=slug).first()
    if room is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "No such room.")
    return room


CurrentRoom = Annotated[Room, Depends(get_room)]


class Seat:
    """One open tab: a user in a room."""

    def __init__(self, websocket: WebSocket, room: Room, user: Member) -> None:
        self.websocket, self.room, self.user = websocket, room, user
        self.group = Group(f"chat.{room.pk}")

    async def history(self, after: int) -> None:
        """Send the messages after number `after` in pages, oldest first, or the last page if `after` is 0."""
        after = after or max(0, self.room.last_number - PAGE)
        while True:
            later = self.room.messages.select_related("author").filter(number__gt=after)[:PAGE]
            page = [message.as_frame() async for message in later]
            done = len(page) < PAGE
            await self.websocket.send_json({"type": "history", "messages": page, "done": done})
            if done:
                return
            after = page[-1]["number"]

    async def answer(self, text: str) -> None:
        """Handle one frame from the client, or send an error and keep the connection."""
        try:
            frame = frames.validate_json(text)
        except ValidationError:
            await self.send_error("The chat does not understand this message.")
            return
        match frame:
            case Post():
                await self.post(frame)
            case Recall():
                await self.history(frame.after)
            case Typing():
                await self.broadcast({"type": "typing", "user": self.user.get_username()})
            case Ping():
                await self.websocket.send_json({"type": "pong"})

    async def post(self, frame: Post) -> None:
        """Save the message, confirm it to its author, and send it to the room."""
        text = frame.text.replace("\0", "").strip()
        if not 0 < len(text) <= MAX_TEXT:
            await self.send_error(f"A message must have 1 to {MAX_TEXT} characters.", frame.key)
            return
        message, new = await database_sync_to_async(self.room.post)(self.user, frame.key, text)
        await self.websocket.send_json(message.as_frame())
        if new:
            await self.broadcast(message.as_frame())

    async def broadcast(self, frame: dict[str, Any]) -> None:
        """Send to the whole room. A client that misses a message sees the gap and requests the history."""
        with suppress(GroupSendError):  # the library has already logged that the channel layer failed
            await self.group.asend(frame)

    async def send_error(self, detail: str, key: UUID | None = None) -> None:
        await self.websocket.send_json({"type": "error", "key": key and str(key), "detail": detail})


@websocket("/ws/chat/{slug}")
async def chat(
    websocket: WebSocket,
    room: CurrentRoom,
    user: Member,
    after: Annotated[int, Query(ge=0, le=LAST_NUMBER)] = 0,
) -> None:
    """Serve a tab in a room: first the messages after number `after`, then each new message."""
    seat = Seat(websocket, room, user)
    await websocket.accept()
    await websocket.join(seat.group)
    await seat.history(after)
    async for text in websocket.iter_text():
        await seat.answer(text)
