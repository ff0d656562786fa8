"""A site whose sockets are documented: rooms, an upload, prices, and routes that are hostile or refuse."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Literal

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.servers.docs_settings")

import django

django.setup()

from django.contrib.auth import get_user_model, login, logout  # noqa: E402
from django.contrib.staticfiles.views import serve  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import include, path  # noqa: E402
from pydantic import BaseModel, Field  # noqa: E402

from fastws_compat import (  # noqa: E402
    Call,
    Depends,
    FastAPI,
    Header,
    HTTPException,
    Path,
    Query,
    Reply,
    TypedWebSocket,
    WebSocket,
)
from fastws_compat.asgi import get_asgi_application  # noqa: E402
from fastws_compat.auth import login_required, staff_member_required  # noqa: E402
from fastws_compat.security import APIKeyQuery, HTTPAuthorizationCredentials, WebSocketBearer  # noqa: E402


class Post(BaseModel):
    """Say something to everybody in the room."""

    type: Literal["post"] = "post"
    text: Annotated[str, Field(min_length=1, max_length=2000, examples=["Hello, room!"])]
    mood: Literal["calm", "happy", "angry"] = "calm"


class Typing(BaseModel):
    """Sent while somebody types."""

    type: Literal["typing"] = "typing"


class Attachment(BaseModel):
    name: Annotated[str, Field(max_length=80, description="The name of the file.")]
    size: Annotated[int, Field(ge=0)]


class Said(BaseModel):
    """Somebody said something."""

    type: Literal["said"] = "said"
    number: Annotated[int, Field(description="Counts up in each room.")]
    user: str
    text: str
    sent_at: datetime
    attachments: list[Attachment] = []


class Found(Reply):
    """What matches, the newest first."""

    type: Literal["found"] = "found"
    hits: list[Said] = []


class Search(Call[Found]):
    """Look for a text in the history."""

    type: Literal["search"] = "search"
    q: Annotated[str, Field(min_length=1, examples=["hello"])]
    limit: Annotated[int, Field(ge=1, le=100)] = 20


app = FastAPI(
    title="Harbour",
    version="2.4",
    description="The sockets of the harbour: rooms to talk in, prices as they change, and files.",
    contact={"name": "The harbour team"},
    license_info={"name": "MIT", "url": "https://example.com/license"},
)


@app.websocket(
    "/ws/rooms/{slug}",
    tags=["chat"],
    rate_limit="50/s",
    heartbeat=True,
    max_invalid=3,
    dependencies=[Depends(login_required)],
)
async def room(
    websocket: TypedWebSocket[Post | Typing | Search, Said | Found],
    slug: Annotated[str, Path(description="Which room.", examples=["lobby"])],
    after: Annotated[int, Query(ge=0, description="The last message that you have.")] = 0,
) -> None:
    """A tab in a room.

    First come the messages after number `after`, then each new one. A message that does not fit is answered
    with an error frame, and the socket stays open.
    """
    await websocket.accept()
    number = after
    async for message in websocket:
        number += 1
        match message:
            case Post():
                now = datetime(2026, 1, 31, 12, tzinfo=UTC)
                await websocket.send_message(Said(number=number, user=slug, text=message.text, sent_at=now))
            case Search(q="nothing"):
                await websocket.send_error(404, "Nothing was found.", to=message)
            case Search():
                await websocket.reply(message, Found())


class Price(BaseModel):
    """What somebody paid."""

    symbol: str
    price: Annotated[float, Field(gt=0)]


@app.websocket("/ws/prices/{symbol}", tags=["market"])
async def prices(
    symbol: Literal["oak", "elm"], count: int = 3, fields: Annotated[list[str], Query()] = []
) -> AsyncIterator[Price]:
    """Prices as they change."""
    for number in range(count):
        yield Price(symbol=symbol, price=number + 1)
        if number % 100 == 99:
            await asyncio.sleep(0)
    await asyncio.sleep(600 if count != 3 else 0)


class Start(BaseModel):
    type: Literal["start"] = "start"
    name: str


class Progress(BaseModel):
    type: Literal["progress"] = "progress"
    received: int


@app.websocket("/ws/upload", tags=["files"], dependencies=[Depends(staff_member_required)])
async def upload(websocket: TypedWebSocket[Start | bytes, Progress | bytes]) -> None:
    """Upload a file in pieces."""
    await websocket.accept()
    async for message in websocket:
        if isinstance(message, bytes):
            await websocket.send_message(Progress(received=len(message)))
            await websocket.send_message(message)


@app.websocket(
    "/ws/secret", tags=["files"], dependencies=[Depends(APIKeyQuery(name="key", auto_error=False))]
)
async def secret(
    websocket: TypedWebSocket[str, str],
    token: Annotated[HTTPAuthorizationCredentials, Depends(WebSocketBearer())],
    x_trace: Annotated[str, Header()] = "none",
) -> None:
    """Text, for those who have a token."""
    await websocket.accept(subprotocol="bearer")
    await websocket.send_text(f"{token.credentials} {websocket.query_params.get('key')}")
    async for text in websocket:
        await websocket.send_text(text.upper())


@app.websocket("/ws/refuses", tags=["refusals"])
async def refuses(websocket: WebSocket, must: int) -> None:
    """Refuses everybody."""
    raise HTTPException(418, "Not today.")


@app.websocket("/ws/closes/{code}", tags=["refusals"])
async def closes(websocket: WebSocket, code: int) -> None:
    """Closes at once."""
    await websocket.accept()
    await websocket.close(code, "as you asked")


@app.websocket("/ws/plain", deprecated=True)
async def plain(websocket: WebSocket) -> None:
    """An echo of the old kind."""
    await websocket.accept()
    while True:
        match await websocket.receive():
            case {"text": str(text)}:
                await websocket.send_text("x" * int(text[5:]) if text.startswith("give ") else text)
            case {"bytes": bytes(data)}:
                await websocket.send_bytes(data)
            case _:
                return


class Hostile(BaseModel):
    """<script>document.title = "docstring"</script>"""

    type: Literal["</script><script>alert(1)</script>"] = "</script><script>alert(1)</script>"
    field: Annotated[str, Field(alias="<img src=x onerror=alert(2)>", description="<b>bold</b>")] = "<i>"


class Inherited(BaseModel):
    """A tag that every object of JavaScript has."""

    type: Literal["constructor"] = "constructor"


@app.websocket("/ws/hostile", summary="<script>document.title = 'summary'</script>", tags=["<u>tag</u>"])
async def hostile(websocket: TypedWebSocket[Hostile | Inherited, Hostile | Inherited]) -> None:
    """<img src=x onerror="document.title = 'description'">"""
    await websocket.accept()
    async for message in websocket:
        await websocket.send_message(message)


class Answered(Reply):
    op: Literal[2] = 2


class Asked(Call[Answered]):
    op: Literal[1] = 1


@app.websocket("/ws/numbered")
async def numbered(websocket: TypedWebSocket[Asked, Answered]) -> None:
    """Its tags are numbers."""
    await websocket.accept()
    async for call in websocket:
        await websocket.reply(call, Answered())


class Coin(BaseModel):
    type: Literal["coin"] = "coin"
    number: int = 2**60


@app.websocket("/ws/100%/{id}")
async def odd(
    websocket: TypedWebSocket[Coin, Coin], id: str, other: Annotated[str, Query(alias="id")] = ""
) -> None:
    """Its path has a percent sign, two parameters have one name, and JavaScript would round its number."""
    await websocket.accept()
    await websocket.send_json([id, other])
    async for coin in websocket:
        await websocket.send_message(coin)


@app.websocket("/ws/hidden", include_in_schema=False)
async def hidden(websocket: WebSocket) -> None: ...


inner = FastAPI(title="Inner")


@inner.websocket("/echo/{rest:path}", name="echo")
async def echo(websocket: WebSocket, rest: str) -> None:
    """Says where it is."""
    await websocket.accept()
    await websocket.send_json([websocket.url.path, websocket.path_params])
    await websocket.receive_text()


app.mount("/v1/{version}", inner, name="v1")
app.host("{sub}.localhost", inner, name="sub")


def enter(request: HttpRequest, name: str) -> HttpResponse:
    """Log in without a password; a name that begins with `staff` is a member of staff."""
    users = get_user_model().objects
    user, _ = users.get_or_create(username=name, defaults={"is_staff": name.startswith("staff")})
    login(request, user)
    return HttpResponse("in")


def leave(request: HttpRequest) -> HttpResponse:
    logout(request)
    return HttpResponse("out")


urlpatterns = [
    path("ws-docs/", include("fastws_compat.docs")),
    path("enter/<name>", enter),
    path("leave", leave),
    path("static/<path:path>", serve, {"insecure": True}),  # also without DEBUG, and below a script name
]
application = get_asgi_application(app)
