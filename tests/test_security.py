"""`WebSocketBearer`, and features of the schemes beyond FastAPI's; see also parity/test_security.py."""

import asyncio
import logging
from typing import Annotated

import pytest

from fastws_compat import Depends, FastAPI, WebSocket
from fastws_compat.connections.states import DEFAULT_SUBPROTOCOL
from fastws_compat.exceptions import DeclarationError, HTTPException
from fastws_compat.requests import HTTPConnection
from fastws_compat.security import (
    HTTPAuthorizationCredentials,
    HTTPBearer,
    OAuth2,
    OAuth2PasswordRequestForm,
    OAuth2PasswordRequestFormStrict,
    WebSocketBearer,
)
from fastws_compat.testclient import TestClient, WebSocketDenialResponse

TOKEN = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ.c2ln-bmF0_dXJl"


def connect(offers=(), headers=()):
    raw = [(name.encode(), value.encode()) for name, value in headers]
    return HTTPConnection(
        {"type": "websocket", "path": "/", "query_string": b"", "headers": raw, "subprotocols": list(offers)}
    )


def token(scheme, connection):
    credentials = asyncio.run(scheme(connection))
    assert credentials.scheme == "Bearer"
    return credentials.credentials


def assert_refused(scheme, connection):
    with pytest.raises(HTTPException) as raised:
        asyncio.run(scheme(connection))
    assert (raised.value.status_code, raised.value.detail) == (401, "Not authenticated")
    assert raised.value.headers == {"WWW-Authenticate": "Bearer"}


MALFORMED = [
    ["bearer"],
    ["chat.v1", "bearer"],
    [TOKEN, "bearer"],
    ["bearer", "bearer"],
    ["bearer", TOKEN, "other"],
    ["bearer", TOKEN, "bearer"],
    ["bearer", "bearer", TOKEN],
    ["bearer", TOKEN, "bearer", TOKEN],
]


@pytest.mark.parametrize(
    "offers", [["bearer", TOKEN], ["chat.v1", "bearer", TOKEN], ["a", "b", "bearer", TOKEN]]
)
def test_token_follows_the_marker(offers):
    connection = connect(offers)

    assert token(WebSocketBearer(), connection) == TOKEN
    assert connection.scope[DEFAULT_SUBPROTOCOL] == "bearer"


@pytest.mark.parametrize("offers", MALFORMED)
def test_malformed_offer_is_refused(offers):
    assert_refused(WebSocketBearer(), connect(offers))


@pytest.mark.parametrize("offers", MALFORMED)
def test_malformed_optional_offer_is_no_token_but_can_be_accepted(offers):
    connection = connect(offers)

    assert asyncio.run(WebSocketBearer(auto_error=False)(connection)) is None
    assert connection.scope[DEFAULT_SUBPROTOCOL] == "bearer"


@pytest.mark.parametrize("offers", [[], ["chat.v1"], ["Bearer", TOKEN], [TOKEN]])
def test_no_marker_is_refused(offers):
    assert_refused(WebSocketBearer(), connect(offers))


@pytest.mark.parametrize("offers", [[], ["chat.v1"]])
def test_no_marker_is_none_when_optional(offers):
    connection = connect(offers)

    assert asyncio.run(WebSocketBearer(auto_error=False)(connection)) is None
    assert DEFAULT_SUBPROTOCOL not in connection.scope


@pytest.mark.parametrize("offers", [[], ["chat.v1"]])
def test_authorization_header_serves_without_marker(offers):
    connection = connect(offers, [("authorization", f"Bearer {TOKEN}")])

    assert token(WebSocketBearer(), connection) == TOKEN
    assert DEFAULT_SUBPROTOCOL not in connection.scope


def test_marker_wins_over_the_authorization_header():
    assert token(WebSocketBearer(), connect(["bearer", "a"], [("authorization", "Bearer b")])) == "a"
    assert_refused(WebSocketBearer(), connect(["bearer"], [("authorization", "Bearer b")]))


@pytest.mark.parametrize(
    "headers",
    [
        [("sec-websocket-protocol", f"bearer, {TOKEN}")],
        [("sec-websocket-protocol", f"bearer,{TOKEN}")],
        [("sec-websocket-protocol", f" bearer , {TOKEN} ,")],
        [("sec-websocket-protocol", "bearer"), ("sec-websocket-protocol", TOKEN)],
    ],
)
@pytest.mark.parametrize("parsed", [True, False])
def test_header_serves_when_the_server_parsed_nothing(headers, parsed):
    connection = connect(headers=headers)
    if not parsed:
        del connection.scope["subprotocols"]

    assert token(WebSocketBearer(), connection) == TOKEN


def test_own_marker():
    connection = connect(["access_token", "abc"])

    assert token(WebSocketBearer("access_token"), connection) == "abc"
    assert connection.scope[DEFAULT_SUBPROTOCOL] == "access_token"
    assert_refused(WebSocketBearer(subprotocol="access_token"), connect(["bearer", "abc"]))


def test_options_of_a_bearer():
    scheme = WebSocketBearer(bearerFormat="JWT", scheme_name="mine", description="how to")

    assert isinstance(scheme, HTTPBearer)
    assert scheme.scheme_name == "mine"
    assert WebSocketBearer().scheme_name == "WebSocketBearer"
    assert scheme.model.model_dump(mode="json", by_alias=True) == {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "how to",
    }


@pytest.mark.parametrize("header", ["Token abc", "token abc", "TOKEN  abc"])
def test_header_of_another_scheme(header):
    scheme = WebSocketBearer(scheme="Token", bearerFormat="hex")
    found = asyncio.run(scheme(connect(headers=[("authorization", header)])))
    assert (found.scheme.lower(), found.credentials) == ("token", "abc")
    offered = asyncio.run(scheme(connect(["bearer", "abc"])))
    assert (offered.scheme, offered.credentials) == ("Token", "abc")
    for refused in ("Bearer abc", "Token", "Tokenabc", "abc"):
        with pytest.raises(HTTPException) as raised:
            asyncio.run(scheme(connect(headers=[("authorization", refused)])))
        assert raised.value.headers == {"WWW-Authenticate": "Token"}
    assert scheme.model.model_dump(exclude_none=True)["scheme"] == "token"


@pytest.mark.parametrize("scheme", ["", "Token ", "Token abc", "Token:", "Tok\u00e9n"])
def test_scheme_that_is_no_word(scheme):
    with pytest.raises(DeclarationError, match="pass one word"):
        WebSocketBearer(scheme=scheme)


def test_own_error_of_a_websocket_bearer():
    class Mine(WebSocketBearer):
        def make_not_authenticated_error(self):
            return HTTPException(403, "no token")

    with pytest.raises(HTTPException, match="403: no token"):
        asyncio.run(Mine()(connect(["bearer"])))


def app_with(scheme, subprotocol=None):
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(
        websocket: WebSocket, found: Annotated[HTTPAuthorizationCredentials | None, Depends(scheme)]
    ):
        await websocket.accept(subprotocol)
        await websocket.send_text(found.credentials if found else "nobody")

    return app


def test_accept_selects_the_marker():
    with TestClient(app_with(WebSocketBearer())) as client:
        with client.websocket_connect("/ws", subprotocols=["chat.v1", "bearer", TOKEN]) as websocket:
            assert websocket.accepted_subprotocol == "bearer"
            assert websocket.receive_text() == TOKEN


def test_accept_selects_the_endpoints_subprotocol():
    with TestClient(app_with(WebSocketBearer(), "chat.v1")) as client:
        with client.websocket_connect("/ws", subprotocols=["chat.v1", "bearer", TOKEN]) as websocket:
            assert websocket.accepted_subprotocol == "chat.v1"
            assert websocket.receive_text() == TOKEN


def test_accept_selects_nothing_for_a_header():
    with TestClient(app_with(WebSocketBearer())) as client:
        with client.websocket_connect("/ws", headers={"Authorization": f"Bearer {TOKEN}"}) as websocket:
            assert websocket.accepted_subprotocol is None
            assert websocket.receive_text() == TOKEN


def test_accept_selects_the_marker_for_a_malformed_optional_offer():
    with TestClient(app_with(WebSocketBearer(auto_error=False))) as client:
        with client.websocket_connect("/ws", subprotocols=["bearer"]) as websocket:
            assert websocket.accepted_subprotocol == "bearer"
            assert websocket.receive_text() == "nobody"


def test_malformed_offer_denies_the_handshake():
    with TestClient(app_with(WebSocketBearer())) as client:
        with pytest.raises(WebSocketDenialResponse) as denied:
            with client.websocket_connect("/ws", subprotocols=["bearer", TOKEN, "other"]):
                raise AssertionError("The handshake was accepted.")

    assert denied.value.status_code == 401
    assert denied.value.headers["WWW-Authenticate"] == "Bearer"
    assert TOKEN not in denied.value.text + str(denied.value.headers)


@pytest.mark.parametrize("offers", [["bearer", TOKEN], ["bearer", TOKEN, "other"]])
def test_token_is_never_logged(offers, caplog):
    caplog.set_level(logging.DEBUG)
    with TestClient(app_with(WebSocketBearer(auto_error=False))) as client:
        with client.websocket_connect("/ws", subprotocols=offers) as websocket:
            websocket.receive_text()

    assert TOKEN not in caplog.text


def test_token_is_not_logged_when_the_handshake_is_denied(caplog):
    caplog.set_level(logging.DEBUG)
    with TestClient(app_with(WebSocketBearer())) as client:
        with pytest.raises(WebSocketDenialResponse):
            with client.websocket_connect("/ws", subprotocols=["bearer", TOKEN, "other"]):
                raise AssertionError("The handshake was accepted.")

    assert TOKEN not in caplog.text


@pytest.mark.parametrize("form", [OAuth2PasswordRequestForm, OAuth2PasswordRequestFormStrict])
def test_password_form_is_refused_at_import(form):
    """A handshake has no body, so the form could never be filled in."""

    async def endpoint(websocket: WebSocket, login: Annotated[form, Depends()]): ...

    with pytest.raises(DeclarationError, match="is read from the body"):
        FastAPI().websocket("/ws")(endpoint)


def test_model_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        OAuth2().model.flows.password = None


def test_every_scheme_is_exported():
    from fastws_compat import security

    exported = {name for name, item in vars(security).items() if isinstance(item, type)}

    assert exported == {
        "APIKeyCookie",
        "APIKeyHeader",
        "APIKeyQuery",
        "HTTPAuthorizationCredentials",
        "HTTPBasic",
        "HTTPBasicCredentials",
        "HTTPBearer",
        "HTTPDigest",
        "OAuth2",
        "OAuth2AuthorizationCodeBearer",
        "OAuth2PasswordBearer",
        "OAuth2PasswordRequestForm",
        "OAuth2PasswordRequestFormStrict",
        "OpenIdConnect",
        "SecurityScopes",
        "WebSocketBearer",
    }
