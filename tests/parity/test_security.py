"""The schemes of `fastapi.security`, called with a connection and as dependencies of an endpoint."""

import asyncio
import inspect
from base64 import b64encode
from typing import Annotated, Any

import pytest

# How each scheme is constructed; the tests refer to them by these keys.
SCHEMES = {
    "query": ("APIKeyQuery", {"name": "key"}),
    "header": ("APIKeyHeader", {"name": "X-Key"}),
    "cookie": ("APIKeyCookie", {"name": "key"}),
    "http": ("HTTPBase", {"scheme": "other"}),
    "basic": ("HTTPBasic", {}),
    "realm": ("HTTPBasic", {"realm": "simple"}),
    "bearer": ("HTTPBearer", {}),
    "digest": ("HTTPDigest", {}),
    "oauth2": ("OAuth2", {}),
    "password": ("OAuth2PasswordBearer", {"tokenUrl": "token"}),
    "code": ("OAuth2AuthorizationCodeBearer", {"authorizationUrl": "authorize", "tokenUrl": "token"}),
    "openid": ("OpenIdConnect", {"openIdConnectUrl": "/openid"}),
}
CHALLENGES = {
    "query": "APIKey",
    "header": "APIKey",
    "cookie": "APIKey",
    "http": "Other",
    "basic": "Basic",
    "realm": 'Basic realm="simple"',
    "bearer": "Bearer",
    "digest": "Digest",
    "oauth2": "Bearer",
    "password": "Bearer",
    "code": "Bearer",
    "openid": "Bearer",
}
BY_HEADER = [key for key in SCHEMES if key not in ("query", "header", "cookie")]


def security(lib: Any) -> Any:
    return lib.module("fastapi.security")


def make(lib: Any, key: str, **options: Any) -> Any:
    name, required = SCHEMES[key]
    module = lib.module("fastapi.security.http") if name == "HTTPBase" else security(lib)
    return getattr(module, name)(**required, **options)


def connect(lib: Any, *headers: tuple[str, str], query: str = "") -> Any:
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return lib.HTTPConnection(
        {"type": "websocket", "path": "/", "query_string": query.encode(), "headers": raw, "subprotocols": []}
    )


def authorized(lib: Any, value: str) -> Any:
    return connect(lib, ("Authorization", value))


def basic(text: str) -> str:
    return b64encode(text.encode("latin-1")).decode()


def call(scheme: Any, connection: Any) -> Any:
    """The result of the scheme; credentials as a dict."""
    result = asyncio.run(scheme(connection))
    return result.model_dump() if hasattr(result, "model_dump") else result


def refused(lib: Any, scheme: Any, connection: Any) -> Any:
    # Half of FastAPI's schemes raise Starlette's HTTPException; here both names are one class.
    with pytest.raises(lib.module("starlette.exceptions").HTTPException) as raised:
        asyncio.run(scheme(connection))
    return raised.value


def pair(scheme: str, credentials: str) -> dict[str, str]:
    return {"scheme": scheme, "credentials": credentials}


# One line per header: the scheme that reads it, its value, and the result (None: no credentials).
GIVEN = [
    ("http", "Other abc", pair("Other", "abc")),
    ("http", "other abc", pair("other", "abc")),
    ("http", "Another abc", pair("Another", "abc")),
    ("http", "Other  abc ", pair("Other", "abc")),
    ("http", "Other a b", pair("Other", "a b")),
    ("http", "Other", None),
    ("http", "Other ", None),
    ("http", " abc", None),
    ("http", "Other\tabc", None),
    ("bearer", "Bearer abc", pair("Bearer", "abc")),
    ("bearer", "bearer abc", pair("bearer", "abc")),
    ("bearer", "BEARER abc", pair("BEARER", "abc")),
    ("bearer", "Bearer   abc  ", pair("Bearer", "abc")),
    ("bearer", "Bearer a b c", pair("Bearer", "a b c")),
    ("bearer", "Bearer \u00e9", pair("Bearer", "\u00e9")),
    ("bearer", "Bearer", None),
    ("bearer", "Bearer ", None),
    ("bearer", "Bearer    ", None),
    ("bearer", "abc", None),
    ("bearer", "Basic abc", None),
    ("bearer", " Bearer abc", None),
    ("bearer", "Bearer\tabc", None),
    ("bearer", "Bearer,abc", None),
    ("digest", "Digest abc", pair("Digest", "abc")),
    ("digest", "dIGEST abc", pair("dIGEST", "abc")),
    ("digest", 'Digest username="a", realm="b"', pair("Digest", 'username="a", realm="b"')),
    ("digest", "Bearer abc", None),
    ("digest", "Digest", None),
    ("oauth2", "Bearer abc", "Bearer abc"),
    ("oauth2", "anything", "anything"),
    ("oauth2", " ", " "),
    ("openid", "Bearer abc", "Bearer abc"),
    ("openid", "anything at all", "anything at all"),
    ("password", "Bearer abc", "abc"),
    ("password", "bEaReR abc", "abc"),
    ("password", "Bearer  abc ", "abc"),
    ("password", "Bearer a b", "a b"),
    ("password", "Bearer", ""),
    ("password", "Bearer ", ""),
    ("password", "Basic abc", None),
    ("password", "abc", None),
    ("password", " Bearer abc", None),
    ("code", "Bearer abc", "abc"),
    ("code", "Bearer", ""),
    ("code", "Digest abc", None),
    ("basic", f"Basic {basic('ann:secret')}", {"username": "ann", "password": "secret"}),
    ("basic", f"basic {basic('ann:secret')}", {"username": "ann", "password": "secret"}),
    ("basic", f"Basic   {basic('ann:secret')} ", {"username": "ann", "password": "secret"}),
    ("basic", f"Basic {basic('ann:a:b:')}", {"username": "ann", "password": "a:b:"}),
    ("basic", f"Basic {basic(':')}", {"username": "", "password": ""}),
    ("basic", f"Basic {basic('ann:')}", {"username": "ann", "password": ""}),
    ("basic", f"Basic !{basic('ann:secret')}", {"username": "ann", "password": "secret"}),
    ("basic", f"Bearer {basic('ann:secret')}", None),
    ("basic", basic("ann:secret"), None),
    ("basic", " Basic", None),
]
# Malformed Basic credentials are refused even if credentials are optional.
UNREADABLE = [
    "Basic",
    "Basic ",
    "Basic notabase64token",
    "Basic !!!!",
    "Basic a",
    "Basic \u00e9",
    f"Basic {basic('no colon')}",
    f"Basic {basic('')}",
    f"Basic {basic(chr(233) + ':secret')}",
    f"Basic {basic('ann:' + chr(233))}",
]


@pytest.mark.parametrize(("key", "value", "expected"), [case for case in GIVEN if case[2] is not None])
@pytest.mark.parametrize("auto_error", [True, False])
def test_header_gives_credentials(lib, key, value, expected, auto_error):
    assert call(make(lib, key, auto_error=auto_error), authorized(lib, value)) == expected


@pytest.mark.parametrize(("key", "value", "expected"), [case for case in GIVEN if case[2] is None])
def test_header_without_credentials_is_refused(lib, key, value, expected):
    error = refused(lib, make(lib, key), authorized(lib, value))

    assert (error.status_code, error.detail) == (401, "Not authenticated")
    assert error.headers == {"WWW-Authenticate": CHALLENGES[key]}


@pytest.mark.parametrize(("key", "value", "expected"), [case for case in GIVEN if case[2] is None])
def test_header_without_credentials_is_none_when_optional(lib, key, value, expected):
    assert call(make(lib, key, auto_error=False), authorized(lib, value)) is None


@pytest.mark.parametrize("value", UNREADABLE)
@pytest.mark.parametrize("auto_error", [True, False])
@pytest.mark.parametrize("key", ["basic", "realm"])
def test_unreadable_basic_credentials_are_always_refused(lib, key, value, auto_error):
    error = refused(lib, make(lib, key, auto_error=auto_error), authorized(lib, value))

    assert (error.status_code, error.detail) == (401, "Not authenticated")
    assert error.headers == {"WWW-Authenticate": CHALLENGES[key]}


@pytest.mark.parametrize("key", SCHEMES)
def test_nothing_sent_is_refused(lib, key):
    error = refused(lib, make(lib, key), connect(lib))

    assert (error.status_code, error.detail) == (401, "Not authenticated")
    assert error.headers == {"WWW-Authenticate": CHALLENGES[key]}


@pytest.mark.parametrize("key", SCHEMES)
def test_nothing_sent_is_none_when_optional(lib, key):
    assert call(make(lib, key, auto_error=False), connect(lib)) is None


@pytest.mark.parametrize("key", BY_HEADER)
def test_empty_header_is_refused(lib, key):
    assert refused(lib, make(lib, key), authorized(lib, "")).status_code == 401


@pytest.mark.parametrize("key", BY_HEADER)
def test_empty_header_is_none_when_optional(lib, key):
    assert call(make(lib, key, auto_error=False), authorized(lib, "")) is None


def test_first_of_two_authorization_headers_counts(lib):
    connection = connect(lib, ("Authorization", "Bearer one"), ("Authorization", "Bearer two"))

    assert call(make(lib, "bearer"), connection) == pair("Bearer", "one")


@pytest.mark.parametrize(
    ("key", "headers", "query", "expected"),
    [
        ("query", [], "key=abc", "abc"),
        ("query", [], "key=a%20b", "a b"),
        ("query", [], "key=one&key=two", "two"),
        ("query", [], "key=", None),
        ("query", [], "KEY=abc", None),
        ("query", [("key", "abc")], "", None),
        ("header", [("X-Key", "abc")], "", "abc"),
        ("header", [("x-key", "abc")], "", "abc"),
        ("header", [("x-key", "one"), ("x-key", "two")], "", "one"),
        ("header", [("x-key", "")], "", None),
        ("header", [("x_key", "abc")], "", None),
        ("header", [], "x-key=abc", None),
        ("cookie", [("Cookie", "key=abc")], "", "abc"),
        ("cookie", [("Cookie", "other=1; key=abc")], "", "abc"),
        ("cookie", [("Cookie", 'key="a b"')], "", "a b"),
        ("cookie", [("Cookie", "other=1"), ("Cookie", "key=abc")], "", "abc"),
        ("cookie", [("Cookie", "key=")], "", None),
        ("cookie", [("Cookie", "Key=abc")], "", None),
        ("cookie", [], "key=abc", None),
    ],
)
def test_api_key(lib, key, headers, query, expected):
    assert call(make(lib, key, auto_error=False), connect(lib, *headers, query=query)) == expected
    if expected is None:
        error = refused(lib, make(lib, key), connect(lib, *headers, query=query))
        assert (error.status_code, error.headers) == (401, {"WWW-Authenticate": "APIKey"})


@pytest.mark.parametrize(("key", "name"), [(key, name) for key, (name, _) in SCHEMES.items()])
def test_scheme_name(lib, key, name):
    assert make(lib, key).scheme_name == name
    assert make(lib, key, scheme_name="mine").scheme_name == "mine"
    assert make(lib, key, scheme_name="").scheme_name == name


@pytest.mark.parametrize("key", SCHEMES)
def test_scheme_name_of_a_subclass(lib, key):
    mine = type("Mine", (type(make(lib, key)),), {})

    assert mine(**SCHEMES[key][1]).scheme_name == "Mine"


@pytest.mark.parametrize("key", SCHEMES)
def test_description_and_auto_error(lib, key):
    scheme = make(lib, key, description="how to", auto_error=False)

    assert scheme.model.description == "how to"
    assert scheme.auto_error is False
    assert make(lib, key).model.description is None
    assert make(lib, key).auto_error is True


@pytest.mark.parametrize(
    ("key", "described"),
    [
        ("query", {"type": "apiKey", "in": "query", "name": "key"}),
        ("header", {"type": "apiKey", "in": "header", "name": "X-Key"}),
        ("cookie", {"type": "apiKey", "in": "cookie", "name": "key"}),
        ("http", {"type": "http", "scheme": "other"}),
        ("basic", {"type": "http", "scheme": "basic"}),
        ("bearer", {"type": "http", "scheme": "bearer"}),
        ("digest", {"type": "http", "scheme": "digest"}),
        ("oauth2", {"type": "oauth2", "flows": {}}),
        ("password", {"type": "oauth2", "flows": {"password": {"tokenUrl": "token", "scopes": {}}}}),
        (
            "code",
            {
                "type": "oauth2",
                "flows": {
                    "authorizationCode": {
                        "authorizationUrl": "authorize",
                        "tokenUrl": "token",
                        "scopes": {},
                    }
                },
            },
        ),
        ("openid", {"type": "openIdConnect", "openIdConnectUrl": "/openid"}),
    ],
)
def test_model_describes_the_scheme(lib, key, described):
    assert make(lib, key).model.model_dump(mode="json", by_alias=True, exclude_none=True) == described


@pytest.mark.parametrize("key", ["query", "header", "cookie"])
def test_model_of_an_api_key(lib, key):
    model = make(lib, key).model

    assert model.name == SCHEMES[key][1]["name"]
    assert model.in_.value == key
    assert model.type_.value == "apiKey"


def test_model_of_a_bearer(lib):
    assert security(lib).HTTPBearer(bearerFormat="JWT").model.bearerFormat == "JWT"
    assert security(lib).HTTPBearer().model.bearerFormat is None


def test_model_of_a_password_flow(lib):
    flow = (
        security(lib)
        .OAuth2PasswordBearer("token", scopes={"me": "Read me"}, refreshUrl="refresh")
        .model.flows.password
    )

    assert (flow.tokenUrl, flow.refreshUrl, flow.scopes) == ("token", "refresh", {"me": "Read me"})


def test_flows_from_a_dict(lib):
    flows = {"implicit": {"authorizationUrl": "authorize", "scopes": {"a": "A"}, "x-mine": 1}}
    model = security(lib).OAuth2(flows=flows).model

    assert model.flows.implicit.authorizationUrl == "authorize"
    assert model.flows.password is None
    assert model.flows.model_dump(exclude_none=True) == flows


def test_flows_without_their_url(lib):
    with pytest.raises(ValueError, match="tokenUrl"):
        security(lib).OAuth2(flows={"password": {}})


@pytest.mark.parametrize(
    "name",
    [
        "APIKeyQuery",
        "APIKeyHeader",
        "APIKeyCookie",
        "HTTPBasic",
        "HTTPBearer",
        "HTTPDigest",
        "OAuth2",
        "OAuth2PasswordBearer",
        "OAuth2AuthorizationCodeBearer",
        "OpenIdConnect",
        "OAuth2PasswordRequestForm",
        "OAuth2PasswordRequestFormStrict",
        "SecurityScopes",
    ],
)
def test_constructor_parameters(lib, name):
    """The names, order, kinds and defaults of FastAPI 0.165."""
    import fastapi.security

    def shape(module: Any) -> list[tuple[Any, ...]]:
        parameters = inspect.signature(getattr(module, name)).parameters.values()
        return [
            (item.name, item.kind, "flows" if item.name == "flows" else item.default) for item in parameters
        ]

    assert shape(security(lib)) == shape(fastapi.security)


@pytest.mark.parametrize("key", SCHEMES)
def test_call_takes_an_http_connection_named_request(lib, key):
    annotations = inspect.get_annotations(type(make(lib, key)).__call__, eval_str=True)

    assert annotations["request"] is lib.HTTPConnection


@pytest.mark.parametrize("key", SCHEMES)
def test_family(lib, key):
    scheme = make(lib, key)

    assert isinstance(scheme, lib.module("fastapi.security.base").SecurityBase)
    assert isinstance(scheme, lib.module("fastapi.security.http").HTTPBase) is (
        key in ("http", "basic", "realm", "bearer", "digest")
    )
    assert isinstance(scheme, security(lib).OAuth2) is (key in ("oauth2", "password", "code"))
    assert isinstance(scheme, lib.module("fastapi.security.api_key").APIKeyBase) is (
        key in ("query", "header", "cookie")
    )


@pytest.mark.parametrize("key", SCHEMES)
def test_own_error(lib, key):
    class Mine(type(make(lib, key))):
        def make_not_authenticated_error(self):
            return lib.HTTPException(403, "Go away", {"X-Why": "because"})

    error = refused(lib, Mine(**SCHEMES[key][1]), connect(lib))

    assert (error.status_code, error.detail, error.headers) == (403, "Go away", {"X-Why": "because"})


def test_own_error_of_another_kind(lib):
    class Mine(security(lib).HTTPBearer):
        def make_not_authenticated_error(self):
            return lib.WebSocketException(1008, "no token")

    with pytest.raises(lib.WebSocketException, match="1008: no token"):
        asyncio.run(Mine()(connect(lib)))


def test_own_authenticate_headers(lib):
    class Mine(lib.module("fastapi.security.http").HTTPBase):
        def make_authenticate_headers(self):
            return {"WWW-Authenticate": "Mine"}

    assert refused(lib, Mine(scheme="x"), connect(lib)).headers == {"WWW-Authenticate": "Mine"}


def test_challenge_of_a_scheme_with_a_dash(lib):
    scheme = lib.module("fastapi.security.http").HTTPBase(scheme="aws4-hmac-sha256")

    assert refused(lib, scheme, connect(lib)).headers == {"WWW-Authenticate": "Aws4-Hmac-Sha256"}


def test_cookie_fallback_of_a_subclass(lib):
    class BearerOrCookie(security(lib).OAuth2PasswordBearer):
        async def __call__(self, request):
            return request.cookies.get("token") or await super().__call__(request)

    scheme = BearerOrCookie(tokenUrl="token")

    assert call(scheme, connect(lib, ("Cookie", "token=abc"))) == "abc"
    assert call(scheme, authorized(lib, "Bearer def")) == "def"
    assert refused(lib, scheme, connect(lib)).status_code == 401


def test_unreadable_credentials_keep_their_cause(lib):
    error = refused(lib, make(lib, "basic"), authorized(lib, "Basic a"))

    assert isinstance(error.__cause__, ValueError)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ("", "")),
        ("", ("", "")),
        ("Bearer", ("Bearer", "")),
        ("Bearer abc", ("Bearer", "abc")),
        ("Bearer  abc ", ("Bearer", "abc")),
        ("Bearer a b", ("Bearer", "a b")),
        (" abc", ("", "abc")),
    ],
)
def test_authorization_header_is_parsed(lib, value, expected):
    assert lib.module("fastapi.security.utils").get_authorization_scheme_param(value) == expected


@pytest.mark.parametrize(
    ("scopes", "collected", "text"),
    [(None, [], ""), ([], [], ""), (["a"], ["a"], "a"), (["a", "b:c"], ["a", "b:c"], "a b:c")],
)
def test_security_scopes(lib, scopes, collected, text):
    made = security(lib).SecurityScopes(scopes)

    assert (made.scopes, made.scope_str) == (collected, text)


@pytest.mark.parametrize("name", ["OAuth2PasswordRequestForm", "OAuth2PasswordRequestFormStrict"])
def test_password_form(lib, name):
    form = getattr(security(lib), name)(
        grant_type="password", username="ann", password="secret", scope="a  b", client_id="c"
    )

    assert form.scopes == ["a", "b"]
    assert (form.grant_type, form.username, form.password) == ("password", "ann", "secret")
    assert (form.client_id, form.client_secret) == ("c", None)


@pytest.mark.parametrize("name", ["HTTPBasicCredentials", "HTTPAuthorizationCredentials"])
def test_credentials_are_pydantic_models(lib, name):
    with pytest.raises(ValueError, match="2 validation errors"):
        getattr(security(lib), name)()


def app_with(lib: Any, scheme: Any) -> Any:
    """An app that sends back the result of `scheme`."""
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, found: Annotated[Any, lib.Security(scheme)]):
        await websocket.accept()
        await websocket.send_json(found.model_dump() if hasattr(found, "model_dump") else found)

    return app


@pytest.mark.parametrize("key", SCHEMES)
def test_app_denies_the_handshake(lib, key):
    with lib.TestClient(app_with(lib, make(lib, key))) as client:
        with pytest.raises(lib.WebSocketDenialResponse) as denied:
            with client.websocket_connect("/ws"):
                raise AssertionError("The handshake was accepted.")

    assert denied.value.status_code == 401
    assert denied.value.headers["WWW-Authenticate"] == CHALLENGES[key]
    assert denied.value.json() == {"detail": "Not authenticated"}


@pytest.mark.parametrize("key", SCHEMES)
def test_app_accepts_without_optional_credentials(lib, key):
    with lib.TestClient(app_with(lib, make(lib, key, auto_error=False))) as client:
        with client.websocket_connect("/ws") as socket:
            assert socket.receive_json() is None


@pytest.mark.parametrize(
    ("key", "url", "headers", "expected"),
    [
        ("query", "/ws?key=abc", {}, "abc"),
        ("header", "/ws", {"X-Key": "abc"}, "abc"),
        ("cookie", "/ws", {"Cookie": "key=abc"}, "abc"),
        ("http", "/ws", {"Authorization": "Other abc"}, pair("Other", "abc")),
        (
            "basic",
            "/ws",
            {"Authorization": f"Basic {basic('ann:secret')}"},
            {"username": "ann", "password": "secret"},
        ),
        ("bearer", "/ws", {"Authorization": "Bearer abc"}, pair("Bearer", "abc")),
        ("digest", "/ws", {"Authorization": "Digest abc"}, pair("Digest", "abc")),
        ("oauth2", "/ws", {"Authorization": "Bearer abc"}, "Bearer abc"),
        ("password", "/ws", {"Authorization": "Bearer abc"}, "abc"),
        ("code", "/ws", {"Authorization": "Bearer abc"}, "abc"),
        ("openid", "/ws", {"Authorization": "Bearer abc"}, "Bearer abc"),
    ],
)
def test_app_reads_credentials(lib, key, url, headers, expected):
    with lib.TestClient(app_with(lib, make(lib, key))) as client:
        with client.websocket_connect(url, headers=headers) as socket:
            assert socket.receive_json() == expected


def test_app_refuses_unreadable_optional_credentials(lib):
    with lib.TestClient(app_with(lib, make(lib, "basic", auto_error=False))) as client:
        with pytest.raises(lib.WebSocketDenialResponse) as denied:
            with client.websocket_connect("/ws", headers={"Authorization": "Basic a"}):
                raise AssertionError("The handshake was accepted.")

    assert denied.value.status_code == 401


def test_app_with_two_optional_schemes(lib):
    token, key = make(lib, "bearer", auto_error=False), make(lib, "query", auto_error=False)
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, token=lib.Security(token), key=lib.Security(key)):
        await websocket.accept()
        await websocket.send_json([token and token.credentials, key])

    with lib.TestClient(app) as client:
        with client.websocket_connect("/ws?key=abc") as socket:
            assert socket.receive_json() == [None, "abc"]
        with client.websocket_connect("/ws", headers={"Authorization": "Bearer def"}) as socket:
            assert socket.receive_json() == ["def", None]


def test_app_collects_scopes_above_the_scheme(lib):
    scheme = make(lib, "password", scopes={"me": "Read me", "items": "Read items"})
    app = lib.FastAPI()

    async def user(scopes: security(lib).SecurityScopes, token: str = lib.Depends(scheme)):
        return [token, scopes.scope_str]

    async def active_user(user: list = lib.Security(user, scopes=["me"])):
        return user

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, user: list = lib.Security(active_user, scopes=["items"])):
        await websocket.accept()
        await websocket.send_json(user)

    with lib.TestClient(app) as client:
        with client.websocket_connect("/ws", headers={"Authorization": "Bearer abc"}) as socket:
            assert socket.receive_json() == ["abc", "items me"]
