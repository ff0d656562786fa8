"""Code as users write it, checked by mypy (strict) and pyright; nothing here is run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypedDict, assert_type

from fastws_compat import (
    APIRouter,
    BackgroundTasks,
    Cookie,
    Depends,
    FastAPI,
    Header,
    HTTPException,
    Path,
    Query,
    Security,
    UploadFile,
    WebSocket,
    WebSocketDisconnect,
    WebSocketException,
    WebSocketState,
    status,
    websocket,
)
from fastws_compat.applications import Starlette
from fastws_compat.datastructures import Address, FormData, Headers, QueryParams, State
from fastws_compat.middleware import Middleware
from fastws_compat.middleware.sessions import SessionMiddleware
from fastws_compat.middleware.trustedhost import TrustedHostMiddleware
from fastws_compat.requests import HTTPConnection
from fastws_compat.responses import StreamingResponse
from fastws_compat.routing import WebSocketRoute
from fastws_compat.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes
from fastws_compat.testclient import TestClient


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, int]]:
    yield {"started": 1}


app = FastAPI(title="typed", docs_url=None, lifespan=lifespan)
router = APIRouter(prefix="/api", tags=["ignored"])
bearer = HTTPBearer(auto_error=False)


class Pager:
    def __init__(self, page: int = 1) -> None:
        self.page = page


def limit(limit: int = Query(10, ge=1, le=100)) -> int:
    return limit


async def connection_host(connection: HTTPConnection) -> str | None:
    return connection.client.host if connection.client else None


async def resource() -> AsyncIterator[str]:
    yield "open"


def sync_resource() -> Iterator[str]:
    yield "open"


Limit = Annotated[int, Depends(limit)]


@app.websocket("/ws/{room}", name="chat", dependencies=[Depends(resource)])
async def chat(
    websocket: WebSocket,
    room: Annotated[str, Path(min_length=1)],
    limited: Limit,
    pager: Annotated[Pager, Depends()],
    host: Annotated[str | None, Depends(connection_host)],
    opened: Annotated[str, Depends(sync_resource, scope="function")],
    tags: Annotated[list[str] | None, Query()] = None,
    token: Annotated[str | None, Header(convert_underscores=False)] = None,
    session: str | None = Cookie(None),
    credentials: HTTPAuthorizationCredentials | None = Security(bearer, scopes=["read"]),
) -> None:
    assert_type(websocket.headers, Headers)
    assert_type(websocket.query_params, QueryParams)
    assert_type(websocket.query_params.get("a"), str | None)
    assert_type(websocket.query_params.get("a", "b"), str)
    assert_type(websocket.query_params.get("a", 1), str | int)
    assert_type(websocket.query_params["a"], str)
    assert_type(websocket.query_params.getlist("a"), list[str])
    assert_type(websocket.query_params.multi_items(), list[tuple[str, str]])
    assert_type(websocket.headers.get("a"), str | None)
    assert_type(websocket.headers.get("a", "b"), str)
    assert_type(websocket.cookies.get("a"), str | None)
    assert_type(websocket.path_params, dict[str, Any])
    assert_type(websocket.client, Address | None)
    assert_type(limited, int)
    await websocket.accept(subprotocol="v1", headers=[(b"x", b"y")])
    assert_type(await websocket.receive_text(), str)
    assert_type(await websocket.receive_bytes(), bytes)
    async for text in websocket.iter_text():
        assert_type(text, str)
        await websocket.send_json({"room": room, "text": text}, mode="binary")
    if websocket.client_state is WebSocketState.CONNECTED:
        await websocket.close(status.WS_1008_POLICY_VIOLATION, reason="bye")


# The decorator returns the function unchanged, including the names of its parameters.
same: Callable[[HTTPConnection], Coroutine[Any, Any, str | None]] = websocket("/plain")(connection_host)
by_name = websocket("/plain")(connection_host)(connection=HTTPConnection({}))


@router.websocket("/items/{number}")
async def item(websocket: WebSocket, number: int, scopes: SecurityScopes, tasks: BackgroundTasks) -> None:
    tasks.add_task(print, "done", flush=True)
    if number < 0:
        raise WebSocketException(code=1008, reason=scopes.scope_str)
    raise HTTPException(status_code=404, detail={"number": number}, headers={"x-y": "z"})


app.include_router(router, prefix="/v1", dependencies=[Depends(limit)])
app.dependency_overrides[limit] = lambda: 5


@app.exception_handler(ValueError)
async def on_value_error(websocket: WebSocket, exc: ValueError) -> None:
    await websocket.close(1003, str(exc))


def test_chat() -> None:
    with TestClient(app) as client, client.websocket_connect("/ws/lobby?limit=3") as socket:
        socket.send_text("hello")
        assert_type(socket.receive_text(timeout=1), str)
        try:
            socket.receive_json()
        except WebSocketDisconnect as exc:
            assert_type(exc.code, int)
            assert_type(exc.reason, str)
    assert_type(str(app.url_path_for("chat", room="lobby")), str)


class Shared(TypedDict):
    pool: list[int]


@router.websocket("/typed")
async def typed(websocket: WebSocket[Shared]) -> None:
    assert_type(websocket.state, Shared)
    await websocket.join("typed")


async def untyped(websocket: WebSocket) -> None:
    assert_type(websocket.state, State)


plain = Starlette(
    routes=[WebSocketRoute("/plain", untyped)], middleware=[Middleware(TrustedHostMiddleware, ["a"])]
)
plain.add_middleware(SessionMiddleware, secret_key="unused")


async def denied(websocket: WebSocket, form: FormData) -> None:
    assert_type(form.get("a"), str | UploadFile | None)
    assert_type(websocket._headers, Headers)
    websocket._raise_on_disconnect(await websocket.receive())
    await websocket.send_denial_response(StreamingResponse(iter(["a", "b"]), status_code=503))
