"""The application object: the arguments of its constructor, its attributes and its return values."""

import asyncio

import pytest

from tests.fake_server import FakeServer


def says(lib, word="hello"):
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.send_text(word)

    return endpoint


def visit(lib, app, url="/ws"):
    with lib.TestClient(app).websocket_connect(url) as websocket:
        return websocket.receive_text()


def run_http(app, path="/nothing"):
    """The status and body of the response to a minimal HTTP request."""
    server = FakeServer({"type": "http.request", "body": b""})
    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}
    asyncio.run(app(scope, server.receive, server.send))
    return server.sent[0]["status"], server.sent[1]["body"]


@pytest.mark.parametrize(
    "options",
    [
        {"docs_url": None},
        {"redoc_url": None, "openapi_url": None},
        {"openapi_tags": [{"name": "x"}]},
        {"servers": [{"url": "/"}]},
        {"terms_of_service": "x", "contact": {"name": "x"}, "license_info": {"name": "x"}},
        {"responses": {404: {"description": "x"}}},
        {"callbacks": []},
        {"deprecated": True},
        {"include_in_schema": False},
        {"swagger_ui_oauth2_redirect_url": None, "swagger_ui_init_oauth": {}, "swagger_ui_parameters": {}},
        {"separate_input_output_schemas": False},
        {"root_path_in_servers": False},
        {"redirect_slashes": False},
        {"openapi_external_docs": {"url": "x"}},
        {"strict_content_type": False},
    ],
)
def test_options_of_http_are_taken(lib, options):
    app = lib.FastAPI(**options)
    app.websocket("/ws")(says(lib))
    assert visit(lib, app) == "hello"


@pytest.mark.parametrize(
    "options",
    [
        {"tags": ["x"]},
        {"default_response_class": object},
        {"responses": {404: {}}},
        {"callbacks": []},
        {"redirect_slashes": False},
        {"deprecated": True, "include_in_schema": False},
        {"strict_content_type": False},
    ],
)
def test_options_of_http_are_taken_by_a_router(lib, options):
    router = lib.APIRouter(**options)
    router.websocket("/ws")(says(lib))
    app = lib.FastAPI()
    app.include_router(router)
    assert visit(lib, app) == "hello"


def test_unknown_options(lib):
    with pytest.raises(TypeError, match="anything"):
        lib.FastAPI(anything=1)
    with pytest.raises(TypeError, match="anything"):
        lib.APIRouter(anything=1)
    with pytest.raises(TypeError, match="anything"):
        lib.FastAPI().include_router(lib.APIRouter(), anything=1)


def test_positional_arguments_are_refused(lib):
    with pytest.raises(TypeError):
        lib.FastAPI(True)
    with pytest.raises(TypeError):
        lib.APIRouter("/prefix")


def test_titles(lib):
    app = lib.FastAPI(title="t", summary="s", description="d", version="1", debug=True)
    assert (app.title, app.summary, app.description, app.version, app.debug) == ("t", "s", "d", "1", True)


def test_default_titles(lib):
    app = lib.FastAPI()
    assert (app.title, app.summary, app.description, app.version, app.debug) == (
        "FastAPI",
        None,
        "",
        "0.1.0",
        False,
    )


def test_state(lib):
    app = lib.FastAPI()
    app.state.number = 5
    app.state["other"] = 6
    assert (app.state["number"], app.state.other, list(app.state)) == (5, 6, ["number", "other"])
    with pytest.raises(AttributeError, match="missing"):
        _ = app.state.missing
    del app.state.number
    assert "number" not in app.state


def test_state_of_two_applications(lib):
    one, two = lib.FastAPI(), lib.FastAPI()
    one.state.x = 1
    assert not hasattr(two.state, "x")


def test_state_seen_from_a_socket(lib):
    app = lib.FastAPI()
    app.state.word = "kept"

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.send_text(websocket.app.state.word)

    assert visit(lib, app) == "kept"


def test_exception_handler_decorator_returns_the_function(lib):
    async def handler(websocket, exc): ...

    app = lib.FastAPI()
    assert app.exception_handler(404)(handler) is handler
    assert app.exception_handlers[404] is handler


def test_adding_returns_nothing(lib):
    app, router = lib.FastAPI(), lib.APIRouter()
    assert app.add_exception_handler(404, says(lib)) is None
    assert app.add_middleware(lambda app: app) is None
    assert app.add_api_websocket_route("/ws", says(lib)) is None
    assert app.include_router(router) is None
    assert app.mount("/sub", lib.FastAPI()) is None


def test_routes_option(lib):
    app = lib.FastAPI(
        routes=[lib.WebSocketRoute("/ws", says(lib)), lib.APIWebSocketRoute("/api", says(lib, "api"))]
    )
    assert visit(lib, app) == "hello"
    assert visit(lib, app, "/api") == "api"


def test_dependencies_do_not_reach_the_routes_option(lib):
    seen = []
    app = lib.FastAPI(
        dependencies=[lib.Depends(lambda: seen.append("app"))],
        routes=[lib.APIWebSocketRoute("/ws", says(lib))],
    )
    visit(lib, app)
    assert seen == []


def test_dependencies_option(lib):
    seen = []
    app = lib.FastAPI(dependencies=[lib.Depends(lambda: seen.append("app"))])
    app.websocket("/ws")(says(lib))
    visit(lib, app)
    assert seen == ["app"]


def test_router_of_an_application(lib):
    depends = lib.Depends(lambda: None)
    app = lib.FastAPI(dependencies=[depends])
    assert isinstance(app.router, lib.APIRouter)
    assert (app.router.prefix, app.router.dependencies) == ("", [depends])
    assert app.router.dependency_overrides_provider is app


def test_dependency_overrides_of_a_fresh_application(lib):
    assert lib.FastAPI().dependency_overrides == {}


def test_dependency_overrides_may_be_replaced(lib):
    app = lib.FastAPI()

    def word():
        return "original"

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, value: str = lib.Depends(word)):
        await websocket.accept()
        await websocket.send_text(value)

    assert visit(lib, app) == "original"
    app.dependency_overrides = {word: lambda: "override"}
    assert visit(lib, app) == "override"
    app.dependency_overrides.clear()
    assert visit(lib, app) == "original"


def test_url_path_for(lib):
    app = lib.FastAPI()
    app.websocket("/{x}", name="n")(says(lib))
    assert app.url_path_for("n", x="a") == "/a"
    with pytest.raises(lib.NoMatchFound):
        app.url_path_for("m")


def test_names_by_keyword_and_by_position(lib):
    app = lib.FastAPI()
    app.websocket("/a", "first")(says(lib))
    app.websocket(path="/b", name="second")(says(lib))
    app.websocket("/c")(says(lib))
    assert [app.url_path_for(name) for name in ("first", "second", "endpoint")] == ["/a", "/b", "/c"]


@pytest.mark.filterwarnings("ignore:The `root_path` parameter is deprecated")
def test_root_path_option(lib):
    app = lib.FastAPI(root_path="/api")

    @app.websocket("/ws", name="me")
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.send_text(f"{websocket.scope['root_path']} {websocket.url_for('me')}")

    assert visit(lib, app) == "/api ws://testserver/api/ws"
    assert visit(lib, app, "/api/ws") == "/api ws://testserver/api/ws"


@pytest.mark.filterwarnings("ignore:The `root_path` parameter is deprecated")
def test_root_path_option_wins_over_the_servers(lib):
    app = lib.FastAPI(root_path="/mine")

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.send_text(websocket.scope["root_path"])

    with lib.TestClient(app, root_path="/theirs").websocket_connect("/ws") as websocket:
        assert websocket.receive_text() == "/mine"


def test_application_is_subclassed(lib):
    class Application(lib.FastAPI):
        def __init__(self, **options):
            super().__init__(**options)
            self.greeting = "hello"
            self.add_api_websocket_route("/ws", self.greet)

        async def greet(self, websocket: lib.WebSocket):
            await websocket.accept()
            await websocket.send_text(self.greeting)

    assert visit(lib, Application(title="x")) == "hello"


def test_call_may_be_overridden(lib):
    class Application(lib.FastAPI):
        async def __call__(self, scope, receive, send):
            scope["path"] = "/ws"
            await super().__call__(scope, receive, send)

    app = Application()
    app.websocket("/ws")(says(lib))
    assert visit(lib, app, "/other") == "hello"


def test_two_applications_side_by_side(lib):
    one, two = lib.FastAPI(), lib.FastAPI()
    one.websocket("/ws")(says(lib, "one"))
    two.websocket("/ws")(says(lib, "two"))
    assert [visit(lib, one), visit(lib, two)] == ["one", "two"]


def test_application_includes_another_ones_router(lib):
    one, two = lib.FastAPI(), lib.FastAPI()
    two.websocket("/ws")(says(lib, "two"))
    two.router.dependencies.append(lib.Depends(lambda: None))
    one.include_router(two.router, prefix="/two")
    assert visit(lib, one, "/two/ws") == "two"


def test_routers_are_included_in_two_applications(lib):
    router = lib.APIRouter()

    def word():
        return "original"

    @router.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, value: str = lib.Depends(word)):
        await websocket.accept()
        await websocket.send_text(value)

    one, two = lib.FastAPI(), lib.FastAPI()
    one.include_router(router)
    two.include_router(router)
    two.dependency_overrides[word] = lambda: "override"
    assert [visit(lib, one), visit(lib, two)] == ["original", "override"]


def test_overrides_of_a_mounted_application_are_its_own(lib):
    app, sub = lib.FastAPI(), lib.FastAPI()

    def word():
        return "original"

    @sub.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, value: str = lib.Depends(word)):
        await websocket.accept()
        await websocket.send_text(value)

    app.mount("/sub", sub)
    app.dependency_overrides[word] = lambda: "app"
    assert visit(lib, app, "/sub/ws") == "original"
    sub.dependency_overrides[word] = lambda: "sub"
    assert visit(lib, app, "/sub/ws") == "sub"


def test_http_is_not_found(lib):
    app = lib.FastAPI()
    app.websocket("/ws")(says(lib))
    assert run_http(app) == (404, b'{"detail":"Not Found"}')
    assert run_http(app, "/ws") == (404, b'{"detail":"Not Found"}')


def test_unknown_attribute(lib):
    with pytest.raises(AttributeError, match="'FastAPI' object has no attribute 'missing'"):
        _ = lib.FastAPI().missing
    with pytest.raises(AttributeError, match="'APIRouter' object has no attribute 'missing'"):
        _ = lib.APIRouter().missing


@pytest.mark.parametrize("option", ["responses", "response_model", "status_code", "operation_id", "x"])
@pytest.mark.parametrize("owner", ["FastAPI", "APIRouter"])
def test_options_that_a_websocket_does_not_have(lib, owner, option):
    target = getattr(lib, owner)()
    with pytest.raises(
        TypeError, match=rf"{owner}\.websocket\(\) got an unexpected keyword argument '{option}'"
    ):
        target.websocket("/ws", **{option: None})
    with pytest.raises(TypeError, match=rf"add_api_websocket_route\(\) got an unexpected .* '{option}'"):
        target.add_api_websocket_route("/ws", says(lib), **{option: None})
