"""Routes of every kind, for the AsyncAPI document and the TypeScript that are made from them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Generic, Literal, NotRequired, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, RootModel, computed_field
from typing_extensions import TypedDict

from fastws_compat import (
    APIRouter,
    Call,
    Cookie,
    Depends,
    ErrorFrame,
    FastAPI,
    Header,
    HTTPException,
    MessageRouter,
    Path,
    Query,
    Reply,
    Security,
    TypedWebSocket,
    WebSocket,
)
from fastws_compat.auth import login_required, permission_required, staff_member_required
from fastws_compat.security import (
    APIKeyCookie,
    APIKeyHeader,
    APIKeyQuery,
    HTTPBasic,
    OAuth2AuthorizationCodeBearer,
    OAuth2PasswordBearer,
    OpenIdConnect,
    WebSocketBearer,
)

T = TypeVar("T")


class Color(Enum):
    red = "red"
    blue = "blue"


class Post(BaseModel):
    """Say something.

    To everybody in the room.
    """

    type: Literal["post"] = "post"
    text: Annotated[str, Field(min_length=1, max_length=2000, examples=["Hello"])]
    color: Color = Color.red
    silent: bool = False


class Typing(BaseModel):
    type: Literal["typing"] = "typing"


class Said(BaseModel):
    """Somebody said something."""

    type: Literal["said"] = "said"
    number: int
    user: str
    text: str
    sent_at: datetime
    color: Color = Color.blue


class Found(Reply):
    type: Literal["found"] = "found"
    hits: list[Said] = []


class Search(Call[Found]):
    type: Literal["search"] = "search"
    q: str


class Ban(BaseModel):
    type: Literal["ban"] = "ban"
    user: str


class Tree(BaseModel):
    type: Literal["tree"] = "tree"
    name: str
    children: list[Tree] = []


class Folder(RootModel[dict[str, "Folder | int"]]):
    """The sizes of files, by name."""


class Box(BaseModel, Generic[T]):
    value: T
    pair: tuple[int, str] = (1, "a")
    many: dict[str, T] = {}


@dataclass
class Point:
    x: float
    y: float
    kind: Literal["point"] = "point"


class Line(TypedDict):
    kind: Literal["line"]
    points: list[Point]
    label: NotRequired[str]


class Everything(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    kind: Literal["everything"] = "everything"
    uuid: UUID
    day: date
    amount: Decimal
    wait: timedelta = timedelta(seconds=5)
    class_: Annotated[str, Field(alias="class")]
    slug: Annotated[str, Field(pattern=re.compile(r"(?P<word>\w+)\Z"))] = "slug"
    code: Annotated[str, Field(pattern="^[a-z]{3}$")]
    rating: Annotated[float, Field(gt=0, lt=1)]
    even: Annotated[int, Field(multiple_of=2, ge=3)] = 4
    first: Post | Typing = Field(default=Typing(), discriminator="type")
    box: Box[int] | None = None
    anything: Any = None
    title: str = "a field that is called title"
    secret: str = Field(default="", exclude=True)
    odd_name: Annotated[str | None, Field(alias="odd-name", description="Not an */ identifier.")] = None

    @computed_field
    @property
    def size(self) -> int:
        return 1


EXAMPLES = [{"kind": "examples", "n": 7}, {"kind": "examples"}]


class WithExamples(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": EXAMPLES})

    kind: Literal["examples"] = "examples"
    n: int = 0


class Problem(ErrorFrame):
    """What this route says of errors."""

    hint: str = ""


class Do(BaseModel):
    action: Literal["do"] = "do"


class Done(BaseModel):
    action: Literal["done"] = "done"


class Price(BaseModel):
    symbol: str
    price: Decimal


class Filters(BaseModel):
    tag: list[str] = []
    limit: Annotated[int, Field(le=100)] = 10


app = FastAPI(
    title="Zoo",
    version="2.0",
    description="Routes of every kind.",
    contact={"name": "Keeper", "email": "keeper@example.com"},
    license_info={"name": "MIT", "identifier": "MIT"},
    terms_of_service="https://example.com/terms",
)
commands = MessageRouter()


@commands.on
async def on_post(message: Post) -> None: ...


@commands.on(dependencies=[Depends(permission_required("auth.delete_user"))])
async def on_ban(message: Ban, room: Annotated[str | None, Query(alias="in-room")] = None) -> None: ...


@commands.on
async def on_search(message: Search) -> Found:
    if message.q == "nothing":
        raise HTTPException(404, "There is nothing.")
    return Found()


@app.websocket(
    "/ws/rooms/{slug}",
    tags=["chat"],
    rate_limit="20/s",
    heartbeat=True,
    dependencies=[Depends(login_required), Depends(permission_required("auth.view_user"))],
)
async def room(
    websocket: TypedWebSocket[Post | Typing | Search, Said | Found],
    slug: Annotated[str, Path(description="Which room.", examples=["lobby"])],
    after: Annotated[int, Query(ge=0, description="The last message that the client has.")] = 0,
    lang: Annotated[str | None, Cookie()] = None,
    x_trace: Annotated[str | None, Header(deprecated=True)] = None,
) -> None:
    """A tab in a room.

    It stays open.
    """


@app.websocket("/ws/commands", handlers=commands)
async def routed(websocket: TypedWebSocket[Post | Ban | Search, Said | Found]) -> None:
    await websocket.accept()
    await websocket.serve()


@app.websocket("/ws/shapes")
async def shapes(
    websocket: TypedWebSocket[Point | Line | Everything | WithExamples, Point | Line | Everything],
) -> None: ...


@app.websocket("/ws/trees")
async def trees(websocket: TypedWebSocket[Tree, Tree]) -> None: ...


@app.websocket("/ws/folders")
async def folders(websocket: TypedWebSocket[Folder, Folder]) -> None: ...


@app.websocket("/ws/boxes")
async def boxes(websocket: TypedWebSocket[Box[int], Box[Said] | Problem]) -> None: ...


@app.websocket("/ws/actions", heartbeat=True)
async def actions(websocket: TypedWebSocket[Do, Done]) -> None:
    await websocket.accept()
    async for _ in websocket:
        await websocket.send_message(Done())


@app.websocket("/ws/upload", dependencies=[Depends(WebSocketBearer()), Depends(staff_member_required)])
async def upload(websocket: TypedWebSocket[Do | bytes, Done | bytes]) -> None: ...


@app.websocket("/ws/text")
async def raw_text(websocket: TypedWebSocket[str, str]) -> None: ...


@app.websocket("/ws/untagged")
async def untagged(
    websocket: TypedWebSocket[dict[str, int] | list[str] | int, Price | list[int]],
) -> None: ...


@app.websocket("/ws/prices/{symbol}")
async def prices(symbol: Literal["a", "b"], filters: Annotated[Filters, Query()]) -> AsyncIterator[Price]:
    yield Price(symbol=symbol, price=Decimal(1))


@app.websocket("/ws/{number:int}/documented", receives=Post | Search, sends=Said | Found, deprecated=True)
async def documented(websocket: WebSocket, number: int) -> None: ...


@app.websocket("/ws/plain/{rest:path}")
async def plain(websocket: WebSocket) -> None: ...


@app.websocket("/ws/hidden", include_in_schema=False)
async def hidden(websocket: TypedWebSocket[Post, Said]) -> None: ...


schemes = [
    APIKeyCookie(name="key"),
    APIKeyHeader(name="X-Key"),
    APIKeyQuery(name="key", description="A key."),
    HTTPBasic(),
    OAuth2PasswordBearer("token", scopes={"read": "Read."}),
    OAuth2AuthorizationCodeBearer(
        "https://example.com/auth", "https://example.com/token", scopes={"read": "Read."}
    ),
    OpenIdConnect(openIdConnectUrl="https://example.com/.well-known"),
]


@app.websocket("/ws/secure", dependencies=[Depends(scheme) for scheme in schemes])
async def secure(websocket: WebSocket) -> None: ...


@app.websocket("/ws/scoped", dependencies=[Security(scheme, scopes=["read"]) for scheme in schemes[-3:]])
async def scoped(websocket: TypedWebSocket[Post, Said]) -> None: ...


@app.router.websocket_route("/ws/starlette")
async def starlette(websocket: WebSocket) -> None: ...


router = APIRouter(prefix="/{tenant}", tags=["tenants"])


@router.websocket("/ws/echo", name="echo")
async def echo(websocket: TypedWebSocket[Post, Said], tenant: UUID) -> None: ...


app.include_router(router)
inner = FastAPI(title="Inner")
inner.add_api_websocket_route("/echo", echo, name="echo")
app.mount("/v1/{version}", inner, name="v1")
app.mount("/v2/{version}", inner)
app.host("{sub}.example.com", inner, name="sub")
