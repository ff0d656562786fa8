"""Applications of many routes with messages of their own, to count what their description costs."""

from typing import Annotated, Any, Literal

from pydantic import Field, create_model

from fastws_compat import FastAPI, Query, TypedWebSocket


def application(routes: int) -> FastAPI:
    app = FastAPI()
    for number in range(routes):
        declare(app, number)
    return app


def declare(app: FastAPI, number: int) -> None:
    up = create_model(
        f"Up{number}",
        type=(Literal["up"], "up"),
        text=(Annotated[str, Field(max_length=100)], ...),
        many=(list[int], []),
    )
    down = create_model(f"Down{number}", type=(Literal["down"], "down"), number=(int, ...), user=(str, "x"))
    kind: Any = TypedWebSocket[up, down]

    @app.websocket(f"/ws/{number}/{{room}}", name=f"route{number}")
    async def endpoint(websocket: kind, room: str, after: Annotated[int, Query(ge=0)] = 0) -> None: ...
