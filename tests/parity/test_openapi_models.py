"""A snippet from many blogs: a bearer token in a cookie, with FastAPI's OpenAPI models."""

from typing import Any

import pytest


def test_oauth2_scheme_with_flows_of_the_openapi_models(lib: Any) -> None:
    models = lib.module("fastapi.openapi.models")

    class CookieBearer(lib.OAuth2):
        def __init__(self, tokenUrl: str) -> None:
            super().__init__(flows=models.OAuthFlows(password={"tokenUrl": tokenUrl, "scopes": {}}))

        async def __call__(self, request: lib.HTTPConnection) -> str | None:
            return request.cookies.get("access_token") or await super().__call__(request)

    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, token: str = lib.Depends(CookieBearer("/token"))) -> None:
        await websocket.accept()
        await websocket.send_text(token)

    with lib.TestClient(app, cookies={"access_token": "abc"}).websocket_connect("/ws") as socket:
        assert socket.receive_text() == "abc"
    with pytest.raises(lib.WebSocketDenialResponse) as refused:
        lib.TestClient(app).websocket_connect("/ws").__enter__()
    assert refused.value.status_code == 401
    assert CookieBearer("/token").model.flows.password.tokenUrl == "/token"
