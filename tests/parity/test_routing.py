"""Which route gets a connection, what it adds to the scope, and the URL for a route's name."""

import functools
import uuid

import pytest

from tests.fake_server import converse, websocket_scope

UUID = "01234567-89ab-cdef-0123-456789abcdef"


def says(lib, word):
    """An endpoint that accepts and sends `word`."""

    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.send_json(word)

    return endpoint


def tells(lib, look):
    """An endpoint that accepts and sends the result of `look(websocket)`."""

    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.send_json(look(websocket))

    return endpoint


def answer(lib, app, url, root_path="", **options):
    """The first message of the route at `url`."""
    client = lib.TestClient(app, root_path=root_path)
    with client.websocket_connect(url, **options) as websocket:
        return websocket.receive_json()


def refused(lib, app, url, **options):
    """The close code of a handshake that no route matches."""
    with pytest.raises(lib.WebSocketDisconnect) as caught:
        with lib.TestClient(app).websocket_connect(url, **options):
            pass
    return caught.value.code


def paths(routes):
    return [route.path for route in routes]


# Registration


def test_websocket_decorator_returns_the_function(lib):
    app, router = lib.FastAPI(), lib.APIRouter()
    endpoint = says(lib, 1)
    assert app.websocket("/a")(endpoint) is endpoint
    assert router.websocket("/b")(endpoint) is endpoint
    assert app.websocket_route("/c")(endpoint) is endpoint
    assert router.websocket_route("/d")(endpoint) is endpoint


def test_one_function_at_two_paths(lib):
    app = lib.FastAPI()

    @app.websocket("/a")
    @app.websocket("/b")
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.send_json(websocket.scope["path"])

    assert answer(lib, app, "/a") == "/a"
    assert answer(lib, app, "/b") == "/b"


def test_add_api_websocket_route(lib):
    app = lib.FastAPI()
    seen = []
    app.add_api_websocket_route(
        "/a", says(lib, "a"), "name", dependencies=[lib.Depends(lambda: seen.append("dependency"))]
    )
    assert answer(lib, app, "/a") == "a"
    assert app.url_path_for("name") == "/a"
    assert seen == ["dependency"]


def test_add_websocket_route_of_a_router(lib):
    router = lib.APIRouter()
    router.add_websocket_route("/a", says(lib, "a"), "name")
    assert answer(lib, router, "/a") == "a"
    assert router.url_path_for("name") == "/a"


def test_websocket_route_takes_the_socket_by_position(lib):
    app = lib.FastAPI()

    @app.websocket_route("/a", "name")
    async def endpoint(any_name):
        await any_name.accept()
        await any_name.send_json(type(any_name).__name__)

    assert answer(lib, app, "/a") == "WebSocket"
    assert app.url_path_for("name") == "/a"


def test_websocket_route_runs_no_dependencies(lib):
    seen = []
    router = lib.APIRouter(dependencies=[lib.Depends(lambda: seen.append("router"))])
    router.add_websocket_route("/a", says(lib, "a"))
    app = lib.FastAPI(dependencies=[lib.Depends(lambda: seen.append("app"))])
    app.include_router(router, dependencies=[lib.Depends(lambda: seen.append("include"))])
    assert answer(lib, app, "/a") == "a"
    assert seen == []


def test_websocket_route_ignores_the_prefix_of_its_own_router(lib):
    router = lib.APIRouter(prefix="/own")
    router.add_websocket_route("/a", says(lib, "a"))
    app = lib.FastAPI()
    app.include_router(router, prefix="/include")
    assert answer(lib, app, "/include/a") == "a"
    assert refused(lib, app, "/include/own/a") == 1000


def test_methods_of_an_object_are_endpoints(lib):
    class Chat:
        async def talk(self, websocket: lib.WebSocket):
            await websocket.accept()
            await websocket.send_json(type(self).__name__)

    app = lib.FastAPI()
    app.websocket("/api")(Chat().talk)
    app.websocket_route("/raw")(Chat().talk)
    assert answer(lib, app, "/api") == "Chat"
    assert answer(lib, app, "/raw") == "Chat"
    assert app.url_path_for("talk") == "/api"


def test_partial_is_an_endpoint(lib):
    async def endpoint(websocket: lib.WebSocket, word: str):
        await websocket.accept()
        await websocket.send_json(word)

    app = lib.FastAPI()
    app.websocket("/api")(functools.partial(endpoint, word="x"))
    app.websocket_route("/raw")(functools.partial(endpoint, word="y"))
    assert answer(lib, app, "/api") == "x"
    assert answer(lib, app, "/raw") == "y"


def test_wrapped_function_is_an_endpoint(lib):
    """The usual decorator: `def wrapper` returns the coroutine of the `async def` inside."""

    def logged(func):
        @functools.wraps(func)
        def wrapper(*args, **kwargs):
            return func(*args, **kwargs)

        return wrapper

    app = lib.FastAPI()

    @app.websocket("/{x}")
    @logged
    async def endpoint(websocket: lib.WebSocket, x: int):
        await websocket.accept()
        await websocket.send_json(x)

    assert answer(lib, app, "/5") == 5


def test_class_method_is_an_endpoint(lib):
    class Chat:
        @classmethod
        async def shared(cls, websocket: lib.WebSocket):
            await websocket.accept()
            await websocket.send_json(cls.__name__)

        @staticmethod
        async def free(websocket: lib.WebSocket):
            await websocket.accept()
            await websocket.send_json("free")

    app = lib.FastAPI()
    app.websocket("/shared")(Chat.shared)
    app.websocket("/free")(Chat.free)
    assert [answer(lib, app, "/shared"), answer(lib, app, "/free")] == ["Chat", "free"]


def test_callable_object_is_an_endpoint(lib):
    class Chat:
        async def __call__(self, websocket: lib.WebSocket):
            await websocket.accept()
            await websocket.send_json("called")

    app = lib.FastAPI()
    app.websocket("/a")(Chat())
    assert answer(lib, app, "/a") == "called"
    assert app.url_path_for("Chat") == "/a"


def test_endpoint_needs_no_socket_parameter(lib):
    app = lib.FastAPI()
    seen = []

    async def dependency(socket: lib.WebSocket):
        await socket.accept()
        await socket.send_json("dependency")

    @app.websocket("/a", dependencies=[lib.Depends(dependency)])
    async def endpoint():
        seen.append("endpoint")

    assert answer(lib, app, "/a") == "dependency"
    assert seen == ["endpoint"]


def test_return_value_is_ignored(lib):
    app = lib.FastAPI()

    @app.websocket("/a")
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.send_json(1)
        return {"ignored": True}

    assert answer(lib, app, "/a") == 1


# Paths and convertors


@pytest.mark.parametrize(
    ("path", "url", "params"),
    [
        ("/{x}", "/abc", {"x": "abc"}),
        ("/{x}", "/12", {"x": "12"}),
        ("/{x:str}", "/a.b-c", {"x": "a.b-c"}),
        ("/{x:int}", "/012", {"x": 12}),
        ("/{x:float}", "/1.5", {"x": 1.5}),
        ("/{x:float}", "/2", {"x": 2.0}),
        ("/{x:path}", "/a/b/c", {"x": "a/b/c"}),
        ("/{x:path}", "/", {"x": ""}),
        ("/a/{x:path}", "/a/b/", {"x": "b/"}),
        ("/{x:path}/end", "/a/end/end", {"x": "a/end"}),
        ("/{x:uuid}", f"/{UUID}", {"x": uuid.UUID(UUID)}),
        ("/{x:uuid}", f"/{UUID.replace('-', '').upper()}", {"x": uuid.UUID(UUID)}),
        ("/{x}/{y:int}", "/a/1", {"x": "a", "y": 1}),
        ("/{x}-{y}", "/a-b-c", {"x": "a-b", "y": "c"}),
        ("/pre{x}post", "/preApost", {"x": "A"}),
        ("/{x}", "/a%20b", {"x": "a b"}),
        ("/{x}", "/%C3%A4", {"x": "ä"}),
        ("/{x_1}", "/a", {"x_1": "a"}),
        ("/a.b", "/a.b", {}),
        ("/(a)+", "/(a)+", {}),
        ("/ä", "/%C3%A4", {}),
        ("/{a-b}", "/%7Ba-b%7D", {}),
        ("/", "/", {}),
    ],
)
def test_path_matches(lib, path, url, params):
    app = lib.FastAPI()
    app.websocket(path)(tells(lib, lambda websocket: repr(websocket.path_params)))
    assert answer(lib, app, url) == repr(params)


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("/{x:int}", "/a"),
        ("/{x:int}", "/-1"),
        ("/{x:int}", "/1.5"),
        ("/{x:float}", "/.5"),
        ("/{x:float}", "/1e5"),
        ("/{x:uuid}", "/1234"),
        ("/{x}", "/a/b"),
        ("/{x}", "/a%2Fb"),
        ("/{x}", "/"),
        ("/a/{x}", "/a"),
        ("/ws", "/ws/"),
        ("/ws/", "/ws"),
        ("/ws", "/WS"),
        ("/ws", "/wss"),
        ("/ws", "/a/ws"),
        ("/a.b", "/aXb"),
        ("/", "/a"),
    ],
)
def test_path_does_not_match(lib, path, url):
    app = lib.FastAPI()
    app.websocket(path)(says(lib, "wrong"))
    assert refused(lib, app, url) == 1000


def test_signature_converts_after_the_convertor(lib):
    app = lib.FastAPI()

    @app.websocket("/{number:int}/{word}")
    async def endpoint(websocket: lib.WebSocket, number: str | int, word: int):
        await websocket.accept()
        await websocket.send_json([number, word])

    assert answer(lib, app, "/1/2") == [1, 2]


def test_no_routes_at_all(lib):
    assert refused(lib, lib.FastAPI(), "/ws") == 1000


def test_redirect_slashes_is_for_http(lib):
    app = lib.FastAPI(redirect_slashes=True)
    app.websocket("/ws")(says(lib, "wrong"))
    assert refused(lib, app, "/ws/") == 1000


@pytest.mark.parametrize("path", ["/{x:wrong}", "/a/{y:Int}"])
def test_unknown_convertor(lib, path):
    kind = path.partition(":")[2].rstrip("}")
    with pytest.raises(AssertionError) as caught:
        lib.FastAPI().websocket(path)(says(lib, 1))
    assert str(caught.value) == f"Unknown path convertor '{kind}'"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/{id}/{id}", "Duplicated param name id at path /{id}/{id}"),
        ("/{b}/{a:int}/{a}/{b}", "Duplicated param names a, b at path /{b}/{a:int}/{a}/{b}"),
    ],
)
def test_parameter_twice_in_a_path(lib, path, message):
    with pytest.raises(ValueError) as caught:
        lib.APIWebSocketRoute(path, says(lib, 1))
    assert str(caught.value) == message
    with pytest.raises(ValueError) as caught:
        lib.WebSocketRoute(path, says(lib, 1))
    assert str(caught.value) == message


def test_parameter_twice_through_a_prefix(lib):
    router = lib.APIRouter(prefix="/{id}")
    with pytest.raises(ValueError) as caught:
        router.websocket("/{id}")(says(lib, 1))
    assert str(caught.value) == "Duplicated param name id at path /{id}/{id}"


def test_own_convertor(lib, monkeypatch):
    convertors = lib.module("starlette.convertors")

    class Hex(convertors.Convertor):
        regex = "[0-9a-f]+"

        def convert(self, value):
            return int(value, 16)

        def to_string(self, value):
            return f"{value:x}"

    monkeypatch.setitem(convertors.CONVERTOR_TYPES, "hex", None)  # undone after the test
    convertors.register_url_convertor("hex", Hex())
    app = lib.FastAPI()
    app.websocket("/{x:hex}", "name")(tells(lib, lambda websocket: websocket.path_params))
    assert answer(lib, app, "/ff") == {"x": 255}
    assert refused(lib, app, "/xy") == 1000
    assert app.url_path_for("name", x=255) == "/ff"


def test_compile_path(lib):
    regex, template, convertors = lib.compile_path("/a.b/{x}/{y:int}")
    assert regex.pattern == r"^/a\.b/(?P<x>[^/]+)/(?P<y>[0-9]+)$"
    assert template == "/a.b/{x}/{y}"
    assert {name: type(convertor).__name__ for name, convertor in convertors.items()} == {
        "x": "StringConvertor",
        "y": "IntegerConvertor",
    }


def test_replace_params(lib):
    _, template, convertors = lib.compile_path("/{x}/{y:int}")
    assert lib.replace_params(template, convertors, {"x": "a", "y": 2, "z": 3}) == ("/a/2", {"z": 3})
    assert lib.replace_params(template, convertors, {"x": "a"}) == ("/a/{y}", {})


# Order


def test_first_match_wins(lib):
    app = lib.FastAPI()
    app.websocket("/{x}")(says(lib, "any"))
    app.websocket("/fixed")(says(lib, "fixed"))
    assert answer(lib, app, "/fixed") == "any"


def test_same_path_twice(lib):
    app = lib.FastAPI()
    app.websocket("/a")(says(lib, "first"))
    app.websocket("/a")(says(lib, "second"))
    assert answer(lib, app, "/a") == "first"


def test_convertor_that_does_not_match_tries_the_next_route(lib):
    app = lib.FastAPI()
    app.websocket("/{x:int}")(says(lib, "int"))
    app.websocket("/{x}")(says(lib, "str"))
    assert answer(lib, app, "/1") == "int"
    assert answer(lib, app, "/a") == "str"


def test_failed_validation_stops_the_handshake(lib):
    app = lib.FastAPI()

    @app.websocket("/{x}")
    async def number(websocket: lib.WebSocket, x: int): ...

    app.websocket("/{y}")(says(lib, "second"))
    assert refused(lib, app, "/a") == 1008


def test_included_router_stands_where_it_was_included(lib):
    app, router = lib.FastAPI(), lib.APIRouter()
    router.websocket("/b")(says(lib, "router"))
    app.websocket("/a")(says(lib, "before"))
    app.include_router(router)
    app.websocket("/{x}")(says(lib, "after"))
    assert [answer(lib, app, url) for url in ("/a", "/b", "/c")] == ["before", "router", "after"]


def test_route_of_another_class_in_an_included_router_is_ignored(lib):
    class Everywhere(lib.BaseRoute):
        def matches(self, scope):
            return lib.Match.FULL, {}

        async def handle(self, scope, receive, send):
            raise AssertionError("reached")

    app, router = lib.FastAPI(), lib.APIRouter(routes=[Everywhere()])
    router.websocket("/a")(says(lib, "router"))
    app.include_router(router)
    assert answer(lib, app, "/a") == "router"
    assert refused(lib, app, "/b") == refused(lib, lib.FastAPI(), "/b")


def test_mount_before_a_route_takes_all_below(lib):
    app, sub = lib.FastAPI(), lib.FastAPI()
    app.mount("/a", sub)
    app.websocket("/a/b")(says(lib, "shadowed"))
    assert refused(lib, app, "/a/b") == 1000


# Prefixes and include_router


def test_prefixes_add_up(lib):
    app, outer, inner = lib.FastAPI(), lib.APIRouter(prefix="/outer"), lib.APIRouter(prefix="/inner")
    inner.websocket("/a")(says(lib, "a"))
    outer.include_router(inner, prefix="/x")
    app.include_router(outer, prefix="/y")
    assert answer(lib, app, "/y/outer/x/inner/a") == "a"
    assert refused(lib, app, "/outer/x/inner/a") == 1000


def test_prefix_with_a_parameter(lib):
    app, router = lib.FastAPI(), lib.APIRouter(prefix="/{room}")

    @router.websocket("/{seat:int}")
    async def endpoint(websocket: lib.WebSocket, house: str, room: str, seat: int):
        await websocket.accept()
        await websocket.send_json([house, room, seat])

    app.include_router(router, prefix="/{house}")
    assert answer(lib, app, "/h/r/1") == ["h", "r", 1]


def test_router_at_two_prefixes(lib):
    app, router = lib.FastAPI(), lib.APIRouter()
    router.websocket("/a")(tells(lib, lambda websocket: websocket.scope["route"].path))
    app.include_router(router, prefix="/x")
    app.include_router(router, prefix="/y")
    assert answer(lib, app, "/x/a") == "/x/a"
    assert answer(lib, app, "/y/a") == "/y/a"


def test_empty_path_in_a_router_with_a_prefix(lib):
    app, router = lib.FastAPI(), lib.APIRouter(prefix="/a")
    router.websocket("")(says(lib, "a"))
    app.include_router(router)
    assert answer(lib, app, "/a") == "a"
    assert refused(lib, app, "/a/") == 1000


def test_empty_path_included_with_a_prefix(lib):
    app, router = lib.FastAPI(), lib.APIRouter()
    router.websocket("")(says(lib, "a"))
    app.include_router(router, prefix="/a")
    assert answer(lib, app, "/a") == "a"


def test_empty_path_and_empty_prefix(lib):
    app, router = lib.FastAPI(), lib.APIRouter()

    @router.websocket("")
    async def chat(websocket: lib.WebSocket): ...

    with pytest.raises(lib.FastAPIError) as caught:
        app.include_router(router)
    assert str(caught.value) == "Prefix and path cannot be both empty (path operation: chat)"


def test_empty_path_and_empty_prefix_below(lib):
    inner, outer = lib.APIRouter(), lib.APIRouter()
    inner.websocket("", "named")(says(lib, 1))
    outer.include_router(lib.APIRouter())
    with pytest.raises(lib.FastAPIError) as caught:
        outer.include_router(inner)
    assert str(caught.value) == "Prefix and path cannot be both empty (path operation: named)"


@pytest.mark.parametrize("path", ["", "/"])
def test_mount_without_a_path_and_empty_prefix(lib, path):
    app, router, outer = lib.FastAPI(), lib.APIRouter(), lib.APIRouter()
    sub = lib.FastAPI()
    sub.websocket("/ws")(says(lib, 1))
    router.mount(path, sub, name="sub")
    for owner in (app, outer):
        with pytest.raises(lib.FastAPIError) as caught:
            owner.include_router(router)
        assert str(caught.value) == "Prefix and path cannot be both empty (path operation: sub)"
    app.include_router(router, prefix="/a")
    assert answer(lib, app, "/a/ws") == 1


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        ("a", "A path prefix must start with '/'"),
        ("/", "A path prefix must not end with '/', as the routes will start with '/'"),
        ("/a/", "A path prefix must not end with '/', as the routes will start with '/'"),
    ],
)
def test_bad_prefix(lib, prefix, message):
    with pytest.raises(AssertionError) as caught:
        lib.APIRouter(prefix=prefix)
    assert str(caught.value) == message
    with pytest.raises(AssertionError) as caught:
        lib.FastAPI().include_router(lib.APIRouter(), prefix=prefix)
    assert str(caught.value) == message


def test_router_in_itself(lib):
    router = lib.APIRouter()
    with pytest.raises(AssertionError) as caught:
        router.include_router(router)
    assert str(caught.value) == (
        "Cannot include the same APIRouter instance into itself. Did you mean to include a different router?"
    )


def test_routers_in_a_circle(lib):
    first, second, third = lib.APIRouter(), lib.APIRouter(), lib.APIRouter()
    first.include_router(second)
    second.include_router(third)
    with pytest.raises(AssertionError) as caught:
        third.include_router(first)
    assert str(caught.value) == (
        "Cannot include an APIRouter instance that already includes this router. "
        "Did you mean to include a different router?"
    )


def test_route_added_after_the_router_was_included(lib):
    app, router = lib.FastAPI(), lib.APIRouter(prefix="/a")
    app.include_router(router)
    router.websocket("/late")(says(lib, "late"))
    assert answer(lib, app, "/a/late") == "late"
    assert app.url_path_for("endpoint") == "/a/late"


def test_route_added_after_the_first_connection(lib):
    app, router = lib.FastAPI(), lib.APIRouter()
    router.websocket("/a")(says(lib, "a"))
    app.include_router(router)
    assert answer(lib, app, "/a") == "a"
    router.websocket("/b")(says(lib, "b"))
    router.add_websocket_route("/c", says(lib, "c"))
    app.websocket("/d")(says(lib, "d"))
    assert [answer(lib, app, url) for url in ("/b", "/c", "/d")] == ["b", "c", "d"]


def test_router_included_after_its_parent_was(lib):
    app, outer, inner = lib.FastAPI(), lib.APIRouter(), lib.APIRouter()
    app.include_router(outer, prefix="/outer")
    outer.include_router(inner, prefix="/inner")
    inner.websocket("/late")(says(lib, "late"))
    assert answer(lib, app, "/outer/inner/late") == "late"


def test_included_routes_are_no_copies_for_the_router(lib):
    app, router = lib.FastAPI(), lib.APIRouter()
    router.websocket("/a")(says(lib, "a"))
    app.include_router(router, prefix="/x")
    assert paths(router.routes) == ["/a"]


def test_options_of_http_are_taken_by_include_router(lib):
    app, router = lib.FastAPI(), lib.APIRouter(tags=["t"], responses={404: {}}, deprecated=True)
    router.websocket("/a")(says(lib, "a"))
    app.include_router(router, tags=["u"], responses={403: {}}, deprecated=False, include_in_schema=False)
    assert answer(lib, app, "/a") == "a"


def test_mount_in_an_included_router(lib):
    app, router, sub = lib.FastAPI(), lib.APIRouter(prefix="/own"), lib.FastAPI()
    sub.websocket("/a")(tells(lib, lambda websocket: websocket.scope["root_path"]))
    router.mount("/sub", sub)
    app.include_router(router, prefix="/x")
    assert answer(lib, app, "/x/sub/a") == "/x/sub"


def test_host_in_an_included_router(lib):
    app, router, sub = lib.FastAPI(), lib.APIRouter(), lib.FastAPI()
    sub.websocket("/a")(says(lib, "sub"))
    router.host("api.example.org", sub)
    app.include_router(router, prefix="/x")
    assert answer(lib, app, "ws://api.example.org/x/a") == "sub"
    assert refused(lib, app, "ws://api.example.org/a") == 1000


def test_raw_route_in_an_included_router(lib):
    app = lib.FastAPI()
    router = lib.APIRouter(routes=[lib.WebSocketRoute("/a", says(lib, "a"), name="n")])
    app.include_router(router, prefix="/x")
    assert answer(lib, app, "/x/a") == "a"
    assert app.url_path_for("n") == "/x/a"


# The order of dependencies


def test_dependencies_run_from_the_outside_in(lib):
    seen = []

    def note(word):
        return lib.Depends(lambda: seen.append(word))

    app = lib.FastAPI(dependencies=[note("app")])
    router = lib.APIRouter(dependencies=[note("router 1"), note("router 2")])

    @router.websocket("/a", dependencies=[note("decorator 1"), note("decorator 2")])
    async def endpoint(websocket: lib.WebSocket, one: None = note("one"), two: None = note("two")):
        await websocket.accept()
        await websocket.send_json(seen)

    app.include_router(router, dependencies=[note("include")])
    assert answer(lib, app, "/a") == [
        "app",
        "include",
        "router 1",
        "router 2",
        "decorator 1",
        "decorator 2",
        "one",
        "two",
    ]


def test_dependencies_of_nested_routers(lib):
    seen = []

    def note(word):
        return lib.Depends(lambda: seen.append(word))

    app = lib.FastAPI()
    outer, inner = lib.APIRouter(dependencies=[note("outer")]), lib.APIRouter(dependencies=[note("inner")])
    inner.websocket("/a")(tells(lib, lambda websocket: seen))
    outer.include_router(inner, dependencies=[note("include inner")])
    app.include_router(outer, dependencies=[note("include outer")])
    assert answer(lib, app, "/a") == ["include outer", "outer", "include inner", "inner"]


def test_dependencies_of_the_parent_do_not_reach_a_mount(lib):
    seen = []
    app, sub = lib.FastAPI(dependencies=[lib.Depends(lambda: seen.append("app"))]), lib.FastAPI()
    sub.websocket("/a")(tells(lib, lambda websocket: seen))
    app.mount("/sub", sub)
    assert answer(lib, app, "/sub/a") == []


def test_dependency_added_to_a_router_after_its_route(lib):
    seen = []
    app, router = lib.FastAPI(), lib.APIRouter()
    router.websocket("/a")(tells(lib, lambda websocket: seen))
    router.dependencies.append(lib.Depends(lambda: seen.append("late")))
    app.include_router(router)
    assert answer(lib, app, "/a") == []


# Mount


def test_mount_an_application(lib):
    app, sub = lib.FastAPI(), lib.FastAPI()
    sub.websocket("/a")(says(lib, "sub"))
    app.mount("/sub", sub)
    assert answer(lib, app, "/sub/a") == "sub"
    assert refused(lib, app, "/a") == 1000
    assert refused(lib, app, "/sub/b") == 1000


def test_mount_does_not_match_without_a_slash(lib):
    app, sub = lib.FastAPI(), lib.FastAPI()
    sub.websocket("/")(says(lib, "sub"))
    app.mount("/sub", sub)
    assert answer(lib, app, "/sub/") == "sub"
    assert refused(lib, app, "/sub") == 1000
    assert refused(lib, app, "/subway/") == 1000


@pytest.mark.parametrize("path", ["", "/"])
def test_mount_at_the_root(lib, path):
    app, sub = lib.FastAPI(), lib.FastAPI()
    sub.websocket("/a")(says(lib, "sub"))
    app.mount(path, sub)
    assert answer(lib, app, "/a") == "sub"


def test_mount_path_is_stripped_of_its_final_slash(lib):
    assert lib.Mount("/sub/", app=lib.FastAPI()).path == "/sub"


def test_mount_routes(lib):
    mount = lib.Mount("/sub", routes=[lib.WebSocketRoute("/{x}", tells(lib, lambda w: w.path_params))])
    assert answer(lib, lib.FastAPI(routes=[mount]), "/sub/1") == {"x": "1"}


def test_mount_parameters_are_merged(lib):
    app, sub = lib.FastAPI(), lib.FastAPI()

    @sub.websocket("/{b}")
    async def endpoint(websocket: lib.WebSocket, b: int):
        await websocket.accept()
        await websocket.send_json([b, websocket.path_params])

    app.mount("/{a:int}", sub)
    assert answer(lib, app, "/1/2") == [2, {"a": 1, "b": "2"}]


def test_mount_scope(lib):
    app, sub = lib.FastAPI(), lib.FastAPI()

    def look(websocket):
        scope = websocket.scope
        return [scope["path"], scope["root_path"], scope["app_root_path"], scope["app"] is sub]

    sub.websocket("/a")(tells(lib, look))
    app.mount("/sub", sub)
    assert answer(lib, app, "/sub/a") == ["/sub/a", "/sub", "", True]


def test_mount_in_a_mount(lib):
    app, middle, sub = lib.FastAPI(), lib.FastAPI(), lib.FastAPI()
    sub.websocket("/a")(
        tells(lib, lambda websocket: [websocket.scope["root_path"], websocket.scope["app_root_path"]])
    )
    middle.mount("/two", sub)
    app.mount("/one", middle)
    assert answer(lib, app, "/one/two/a") == ["/one/two", ""]


def test_mount_below_a_root_path(lib):
    app, sub = lib.FastAPI(), lib.FastAPI()
    sub.websocket("/a")(
        tells(lib, lambda websocket: [websocket.scope["root_path"], websocket.scope["app_root_path"]])
    )
    app.mount("/sub", sub)
    assert answer(lib, app, "/api/sub/a", root_path="/api") == ["/api/sub", "/api"]


def test_mount_a_foreign_application(lib):
    async def foreign(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": '"' + scope["root_path"] + '"'})
        await receive()

    app = lib.FastAPI()
    app.mount("/foreign", foreign)
    assert answer(lib, app, "/foreign/any/thing") == "/foreign"


def test_mount_foreign_application_that_refuses(lib):
    async def foreign(scope, receive, send):
        await send({"type": "websocket.close", "code": 4004})

    app = lib.FastAPI()
    app.mount("/foreign", foreign)
    assert refused(lib, app, "/foreign/") == 4004


def test_mount_a_router(lib):
    app, router = lib.FastAPI(), lib.APIRouter()
    router.websocket("/a")(says(lib, "router"))
    app.mount("/sub", router)
    assert answer(lib, app, "/sub/a") == "router"


def test_mount_path_without_slash(lib):
    with pytest.raises(AssertionError) as caught:
        lib.Mount("sub", app=lib.FastAPI())
    assert str(caught.value) == "Routed paths must start with '/'"


def test_mount_of_nothing(lib):
    with pytest.raises(AssertionError) as caught:
        lib.Mount("/sub")
    assert str(caught.value) == "Either 'app=...', or 'routes=' must be specified"


def test_mount_equality_and_repr(lib):
    async def foreign(scope, receive, send): ...

    mount = lib.Mount("/sub", app=foreign, name="n")
    assert mount == lib.Mount("/sub", app=foreign)
    assert mount != lib.Mount("/other", app=foreign)
    assert repr(mount) == f"Mount(path='/sub', name='n', app={foreign!r})"
    assert repr(lib.Mount("/sub", app=foreign)) == f"Mount(path='/sub', name='', app={foreign!r})"


def test_mount_matches(lib):
    async def foreign(scope, receive, send): ...

    mount = lib.Mount("/{x}/sub", app=foreign)
    match, child = mount.matches({"type": "websocket", "path": "/1/sub/a", "root_path": ""})
    assert match is lib.Match.FULL
    assert child == {
        "path_params": {"x": "1"},
        "root_path": "/1/sub",
        "app_root_path": "",
        "endpoint": foreign,
    }
    assert mount.matches({"type": "websocket", "path": "/other"}) == (lib.Match.NONE, {})


def test_routes_of_a_mount(lib):
    sub = lib.FastAPI()
    sub.websocket("/a")(says(lib, 1))
    assert lib.Mount("/sub", app=sub).routes[-1].path == "/a"


# Host


@pytest.mark.parametrize(
    "host", ["api.example.org", "API.Example.ORG", "api.example.org:8000", "api.example.org:80"]
)
def test_host_matches(lib, host):
    app, sub = lib.FastAPI(), lib.FastAPI()
    sub.websocket("/a")(says(lib, "api"))
    app.host("api.example.org", sub)
    assert answer(lib, app, "/a", headers={"host": host}) == "api"


@pytest.mark.parametrize(
    "host",
    [
        "example.org",
        "api.example.org.evil",
        "apiXexample.org",
        "api.example.org/",
        "a b",
        "",
        "x@api.example.org",
    ],
)
def test_host_does_not_match(lib, host):
    app, sub = lib.FastAPI(), lib.FastAPI()
    sub.websocket("/a")(says(lib, "api"))
    app.host("api.example.org", sub)
    app.websocket("/a")(says(lib, "main"))
    assert answer(lib, app, "/a", headers={"host": host}) == "main"


def test_host_pattern_with_a_port(lib):
    app, sub = lib.FastAPI(), lib.FastAPI()
    sub.websocket("/a")(says(lib, "api"))
    app.host("api.example.org:9000", sub)
    assert answer(lib, app, "/a", headers={"host": "api.example.org:1234"}) == "api"


def test_host_of_ipv6(lib):
    app, sub = lib.FastAPI(), lib.FastAPI()
    sub.websocket("/a")(says(lib, "v6"))
    app.host("[::1]", sub)
    assert answer(lib, app, "/a", headers={"host": "[::1]:8000"}) == "v6"


def test_host_parameters(lib):
    app, sub = lib.FastAPI(), lib.FastAPI()

    sub.websocket("/{b}")(tells(lib, lambda websocket: websocket.path_params))
    app.host("{tenant}.example.org", sub)
    assert answer(lib, app, "/1", headers={"host": "Acme.example.org"}) == {"tenant": "acme", "b": "1"}


def test_host_as_a_route(lib):
    sub = lib.Router(routes=[lib.WebSocketRoute("/a", says(lib, "host"))])
    app = lib.FastAPI(routes=[lib.Host("x.org", sub, name="h"), lib.WebSocketRoute("/a", says(lib, "main"))])
    assert answer(lib, app, "/a", headers={"host": "x.org"}) == "host"
    assert answer(lib, app, "/a") == "main"


def test_host_with_a_slash(lib):
    with pytest.raises(AssertionError) as caught:
        lib.Host("/x.org", app=lib.FastAPI())
    assert str(caught.value) == "Host must not start with '/'"


def test_host_equality_and_repr(lib):
    async def foreign(scope, receive, send): ...

    host = lib.Host("x.org", foreign, "n")
    assert host == lib.Host("x.org", foreign)
    assert host != lib.Host("y.org", foreign)
    assert repr(host) == f"Host(host='x.org', name='n', app={foreign!r})"


def test_url_path_for_a_host(lib):
    app, sub = lib.FastAPI(), lib.FastAPI()
    sub.websocket("/{x}", "child")(says(lib, 1))
    app.host("{tenant}.example.org", sub, name="h")
    url = app.url_path_for("h:child", tenant="acme", x="a")
    assert (str(url), url.protocol, url.host) == ("/a", "websocket", "acme.example.org")
    assert str(url.make_absolute_url("https://other.org/x")) == "wss://acme.example.org/x/a"
    assert app.url_path_for("h", tenant="acme", path="/any").host == "acme.example.org"


# Routes as objects


def test_api_route_matches(lib):
    endpoint = says(lib, 1)
    route = lib.APIWebSocketRoute("/{x:int}", endpoint)
    match, child = route.matches({"type": "websocket", "path": "/5", "root_path": ""})
    assert match is lib.Match.FULL
    assert child == {"endpoint": endpoint, "path_params": {"x": 5}, "route": route}


@pytest.mark.parametrize("scope", [{"type": "websocket", "path": "/a"}, {"type": "http", "path": "/5"}])
def test_api_route_does_not_match(lib, scope):
    assert lib.APIWebSocketRoute("/{x:int}", says(lib, 1)).matches(scope) == (lib.Match.NONE, {})


def test_api_route_adds_to_the_path_params(lib):
    route = lib.APIWebSocketRoute("/{x}", says(lib, 1))
    scope = {"type": "websocket", "path": "/a", "path_params": {"outer": 1, "x": 0}}
    assert route.matches(scope)[1]["path_params"] == {"outer": 1, "x": "a"}
    assert scope["path_params"] == {"outer": 1, "x": 0}


def test_api_route_attributes(lib):
    async def chat(websocket: lib.WebSocket, x: int): ...

    depends = lib.Depends(lambda: None)
    route = lib.APIWebSocketRoute("/{x:int}", chat, dependencies=[depends])
    assert (route.path, route.path_format, route.name) == ("/{x:int}", "/{x}", "chat")
    assert route.endpoint is chat
    assert route.dependencies == [depends]
    assert route.path_regex.pattern == "^/(?P<x>[0-9]+)$"
    assert list(route.param_convertors) == ["x"]


def test_api_route_url_path_for(lib):
    route = lib.APIWebSocketRoute("/{x:int}", says(lib, 1), name="n")
    assert route.url_path_for("n", x=5) == "/5"
    with pytest.raises(lib.NoMatchFound) as caught:
        route.url_path_for("m", x=5)
    assert str(caught.value) == 'No route exists for name "m" and params "x".'


def test_api_route_alone_is_an_application(lib):
    seen = []

    async def endpoint(websocket: lib.WebSocket, x: int, q: str = "q"):
        await websocket.accept()
        await websocket.send_json([x, q])

    route = lib.APIWebSocketRoute("/{x}", endpoint, dependencies=[lib.Depends(lambda: seen.append(1))])
    assert answer(lib, route, "/5?q=a") == [5, "a"]
    assert seen == [1]


@pytest.mark.parametrize("kind", ["APIWebSocketRoute", "WebSocketRoute"])
def test_route_alone_refuses_other_paths(lib, kind):
    assert refused(lib, getattr(lib, kind)("/a", says(lib, 1)), "/b") == 1000


def test_raw_route_alone_is_an_application(lib):
    route = lib.WebSocketRoute("/{x:int}", tells(lib, lambda websocket: websocket.path_params))
    assert answer(lib, route, "/5") == {"x": 5}


def test_api_route_takes_overrides_from_its_provider(lib):
    class Provider:
        dependency_overrides = {}

    def dependency():
        return "original"

    async def endpoint(websocket: lib.WebSocket, value: str = lib.Depends(dependency)):
        await websocket.accept()
        await websocket.send_json(value)

    route = lib.APIWebSocketRoute("/a", endpoint, dependency_overrides_provider=Provider())
    assert answer(lib, route, "/a") == "original"
    Provider.dependency_overrides[dependency] = lambda: "override"
    assert answer(lib, route, "/a") == "override"


def test_api_route_with_an_empty_path(lib):
    assert lib.APIWebSocketRoute("", says(lib, 1)).path == ""


@pytest.mark.parametrize("path", ["a", "{x}", ""])
def test_raw_route_without_a_slash(lib, path):
    with pytest.raises(AssertionError, match="Routed paths must start with '/'"):
        lib.WebSocketRoute(path, says(lib, 1))
    with pytest.raises(AssertionError, match="Routed paths must start with '/'"):
        lib.APIRouter().add_websocket_route(path, says(lib, 1))


def test_raw_route_with_an_application_class(lib):
    class Application:
        def __init__(self, scope, receive, send):
            self.send = send

        def __await__(self):
            return self.run().__await__()

        async def run(self):
            await self.send({"type": "websocket.close", "code": 4001})

    assert refused(lib, lib.FastAPI(routes=[lib.WebSocketRoute("/a", Application)]), "/a") == 4001


def test_raw_route_with_an_application_object(lib):
    class Application:
        async def __call__(self, scope, receive, send):
            await send({"type": "websocket.close", "code": 4001})

    assert refused(lib, lib.FastAPI(routes=[lib.WebSocketRoute("/a", Application())]), "/a") == 4001


@pytest.mark.parametrize("kind", ["APIWebSocketRoute", "WebSocketRoute"])
def test_route_equality_and_repr(lib, kind):
    route_class, endpoint = getattr(lib, kind), says(lib, 1)
    route = route_class("/a", endpoint, name="n")
    assert route == route_class("/a", endpoint)
    assert route != route_class("/b", endpoint)
    assert route != route_class("/a", says(lib, 1))
    assert repr(route) == f"{kind}(path='/a', name='n')"


def test_api_route_is_a_websocket_route_and_a_base_route(lib):
    assert issubclass(lib.APIWebSocketRoute, lib.WebSocketRoute)
    assert issubclass(lib.WebSocketRoute, lib.BaseRoute)
    assert issubclass(lib.Mount, lib.BaseRoute)
    assert issubclass(lib.Host, lib.BaseRoute)
    assert issubclass(lib.APIRouter, lib.Router)


def test_a_route_class_needs_methods_of_its_own(lib):
    route = lib.BaseRoute()
    with pytest.raises(NotImplementedError):
        route.matches(websocket_scope())
    with pytest.raises(NotImplementedError):
        route.url_path_for("name")
    with pytest.raises(NotImplementedError):
        converse(route.handle)


@pytest.mark.parametrize(
    ("endpoint", "name"), [("function", "endpoint"), ("partial", "partial"), ("lambda", "<lambda>")]
)
def test_default_names(lib, endpoint, name):
    function = says(lib, 1)
    kinds = {"function": function, "partial": functools.partial(function), "lambda": lambda websocket: None}
    assert lib.WebSocketRoute("/a", kinds[endpoint]).name == name


def test_routes_of_an_application(lib):
    app = lib.FastAPI()
    app.websocket("/a")(says(lib, 1))
    app.websocket_route("/b")(says(lib, 2))
    app.mount("/c", lib.FastAPI())
    assert [type(route).__name__ for route in app.routes[-3:]] == [
        "APIWebSocketRoute",
        "WebSocketRoute",
        "Mount",
    ]
    assert paths(app.routes[-3:]) == ["/a", "/b", "/c"]
    assert app.routes is app.router.routes


def test_route_removed_from_the_list(lib):
    app = lib.FastAPI()
    app.websocket("/a")(says(lib, "first"))
    app.websocket("/a")(says(lib, "second"))
    del app.router.routes[-2]
    assert answer(lib, app, "/a") == "second"


def test_route_inserted_into_the_list(lib):
    app = lib.FastAPI()
    app.websocket("/a")(says(lib, "late"))
    app.router.routes.insert(0, lib.WebSocketRoute("/a", says(lib, "early")))
    assert answer(lib, app, "/a") == "early"


def test_list_of_routes_is_replaced(lib):
    app, router = lib.FastAPI(), lib.APIRouter()
    router.websocket("/a")(says(lib, "a"))
    router.websocket("/b")(says(lib, "b"))
    router.routes = [route for route in router.routes if route.path == "/b"]
    app.include_router(router)
    app.router.routes = [*app.router.routes, lib.WebSocketRoute("/c", says(lib, "c"))]
    assert [answer(lib, app, "/b"), answer(lib, app, "/c"), refused(lib, app, "/a")] == ["b", "c", 1000]


def test_route_contexts_show_included_routes(lib):
    app, router, inner = lib.FastAPI(), lib.APIRouter(prefix="/r"), lib.APIRouter()
    inner.websocket("/a", "n")(says(lib, 1))
    router.include_router(inner, prefix="/i")
    app.include_router(router, prefix="/x")
    app.router.routes.append(lib.Mount("/m", app=lib.FastAPI()))
    contexts = list(lib.module("fastapi.routing").iter_route_contexts(app.routes))
    included, mounted = contexts[-2:]
    assert (included.path, included.name, included.methods) == ("/x/r/i/a", "n", None)
    assert included.route is included.original_route is inner.routes[0]
    assert (mounted.path, mounted.endpoint, mounted.route) == ("/m", None, app.router.routes[-1])
    with pytest.raises(AttributeError):
        _ = included.unknown


# Routers alone


def test_api_router_alone_is_an_application(lib):
    seen = []
    router = lib.APIRouter(prefix="/p", dependencies=[lib.Depends(lambda: seen.append(1))])
    router.websocket("/a")(tells(lib, lambda websocket: [seen, "app" in websocket.scope]))
    assert answer(lib, router, "/p/a") == [[1], False]
    assert refused(lib, router, "/a") == 1000


def test_starlette_router_alone_is_an_application(lib):
    router = lib.Router([lib.WebSocketRoute("/a", says(lib, "a"))])
    assert answer(lib, router, "/a") == "a"
    assert refused(lib, router, "/b") == 1000


@pytest.mark.parametrize("kind", ["Router", "APIRouter"])
def test_default_of_a_router(lib, kind):
    async def default(scope, receive, send):
        await send({"type": "websocket.close", "code": 4404})

    assert refused(lib, getattr(lib, kind)(default=default), "/a") == 4404


def test_default_of_an_included_router_is_not_called(lib):
    async def default(scope, receive, send):
        raise LookupError

    app = lib.FastAPI()
    app.include_router(lib.APIRouter(default=default))
    assert refused(lib, app, "/a") == 1000


def test_routers_are_equal_when_their_routes_are(lib):
    endpoint = says(lib, 1)
    assert lib.Router([lib.WebSocketRoute("/a", endpoint)]) == lib.Router(
        [lib.WebSocketRoute("/a", endpoint)]
    )
    assert lib.Router([lib.WebSocketRoute("/a", endpoint)]) != lib.Router()


def test_router_copies_the_list_of_routes(lib):
    routes = [lib.WebSocketRoute("/a", says(lib, 1))]
    router = lib.Router(routes)
    router.add_websocket_route("/b", says(lib, 2))
    assert len(routes) == 1


def test_exception_in_a_router_alone_escapes(lib):
    router = lib.APIRouter()

    @router.websocket("/a")
    async def endpoint(websocket: lib.WebSocket):
        raise LookupError

    with pytest.raises(LookupError):
        answer(lib, router, "/a")


# The scope


def test_scope_of_a_route(lib):
    app = lib.FastAPI()
    seen = {}

    @app.websocket("/{x:int}")
    async def endpoint(websocket: lib.WebSocket):
        seen.update(websocket.scope)
        await websocket.accept()
        await websocket.send_json(1)

    answer(lib, app, "/5")
    assert seen["endpoint"] is endpoint
    assert seen["path_params"] == {"x": 5}
    assert seen["route"] is app.routes[-1]
    assert seen["router"] is app.router
    assert seen["app"] is app
    assert (seen["path"], seen["root_path"]) == ("/5", "")


def test_scope_of_a_raw_route(lib):
    app, router = lib.FastAPI(), lib.APIRouter()
    look = tells(lib, lambda websocket: getattr(websocket.scope.get("route"), "path", None))
    app.router.add_websocket_route("/own", look)
    router.add_websocket_route("/included", look)
    app.include_router(router, prefix="/i")

    # Starlette's own routes set no route; ours do.
    expected = [None, None] if lib.is_oracle else ["/own", "/i/included"]
    assert [answer(lib, app, "/own"), answer(lib, app, "/i/included")] == expected


def test_scope_of_an_included_route(lib):
    app, router = lib.FastAPI(), lib.APIRouter(prefix="/r")

    def look(websocket):
        route = websocket.scope["route"]
        kind = isinstance(route, lib.APIWebSocketRoute)
        return [kind, route.path, route.path_format, route.name, websocket.scope["router"] is app.router]

    router.websocket("/{x:int}", "n")(tells(lib, look))
    app.include_router(router, prefix="/i")
    assert answer(lib, app, "/i/r/5") == [True, "/i/r/{x:int}", "/i/r/{x}", "n", True]


def test_scope_in_a_mounted_application(lib):
    app, sub = lib.FastAPI(), lib.FastAPI()

    def look(websocket):
        scope = websocket.scope
        return [scope["router"] is app.router, scope["app"] is sub, scope["route"].path]

    sub.websocket("/a")(tells(lib, look))
    app.mount("/sub", sub)
    assert answer(lib, app, "/sub/a") == [True, True, "/a"]


def test_socket_has_its_application(lib):
    app = lib.FastAPI()
    app.websocket("/a")(tells(lib, lambda websocket: websocket.app is app))
    assert answer(lib, app, "/a") is True


# root_path


@pytest.mark.parametrize("url", ["/ws", "/api/ws"])
def test_root_path_may_stand_in_the_path(lib, url):
    app = lib.FastAPI()
    app.websocket("/ws")(tells(lib, lambda websocket: websocket.scope["root_path"]))
    assert answer(lib, app, url, root_path="/api") == "/api"


def test_root_path_ends_with_a_segment(lib):
    app = lib.FastAPI()
    app.websocket("/apix/ws")(says(lib, "whole"))
    assert answer(lib, app, "/apix/ws", root_path="/api") == "whole"


def test_root_path_alone(lib):
    app = lib.FastAPI()
    app.websocket("/")(says(lib, "root"))
    client = lib.TestClient(app, root_path="/api")
    with client.websocket_connect("/api/") as websocket:
        assert websocket.receive_json() == "root"
    with pytest.raises(lib.WebSocketDisconnect), client.websocket_connect("/api"):
        pass


# url_path_for() and NoMatchFound


@pytest.mark.parametrize(
    ("path", "params", "url"),
    [
        ("/a", {}, "/a"),
        ("/{x}", {"x": "b"}, "/b"),
        ("/{x}", {"x": 5}, "/5"),
        ("/{x:int}", {"x": "5"}, "/5"),
        ("/{x:float}", {"x": 1.5}, "/1.5"),
        ("/{x:float}", {"x": 2}, "/2"),
        ("/{x:path}", {"x": "a/b"}, "/a/b"),
        ("/{x:path}", {"x": ""}, "/"),
        ("/{x:uuid}", {"x": uuid.UUID(UUID)}, f"/{UUID}"),
        ("/{x}/{y:int}", {"y": 1, "x": "a"}, "/a/1"),
        ("/{x}", {"x": "ä b"}, "/ä b"),
    ],
)
def test_url_path_for(lib, path, params, url):
    app = lib.FastAPI()
    app.websocket(path, name="n")(says(lib, 1))
    found = app.url_path_for("n", **params)
    assert (str(found), found.protocol, found.host) == (url, "websocket", "")
    assert isinstance(found, lib.URLPath)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("/{x}", "a/b", "May not contain path separators"),
        ("/{x}", "", "Must not be empty"),
        ("/{x:int}", -1, "Negative integers are not supported"),
        ("/{x:float}", -0.5, "Negative floats are not supported"),
        ("/{x:float}", float("nan"), "NaN values are not supported"),
        ("/{x:float}", float("inf"), "Infinite values are not supported"),
    ],
)
def test_url_path_for_a_value_that_no_path_can_have(lib, path, value, message):
    app = lib.FastAPI()
    app.websocket(path, name="n")(says(lib, 1))
    with pytest.raises(AssertionError) as caught:
        app.url_path_for("n", x=value)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("other", {}, 'No route exists for name "other" and params "".'),
        ("other", {"x": 1, "y": 2}, 'No route exists for name "other" and params "x, y".'),
        ("n", {}, 'No route exists for name "n" and params "".'),
        ("n", {"x": 1, "z": 1}, 'No route exists for name "n" and params "x, z".'),
        ("n:child", {"x": 1}, 'No route exists for name "n:child" and params "x".'),
    ],
)
def test_no_match_found(lib, name, params, message):
    app = lib.FastAPI()
    app.websocket("/{x}", name="n")(says(lib, 1))
    for place in (app, app.router):
        with pytest.raises(lib.NoMatchFound) as caught:
            place.url_path_for(name, **params)
        assert str(caught.value) == message


def test_url_path_for_takes_a_parameter_called_name(lib):
    app = lib.FastAPI()
    app.websocket("/{name}", name="n")(says(lib, 1))
    assert app.url_path_for("n", name="x") == "/x"


def test_url_path_for_the_first_of_two_names(lib):
    app = lib.FastAPI()
    app.websocket("/a", name="n")(says(lib, 1))
    app.websocket("/b", name="n")(says(lib, 1))
    assert app.url_path_for("n") == "/a"


def test_url_path_for_the_name_that_fits_the_parameters(lib):
    app = lib.FastAPI()
    app.websocket("/a", name="n")(says(lib, 1))
    app.websocket("/{x}", name="n")(says(lib, 1))
    assert app.url_path_for("n", x="b") == "/b"


def test_url_path_for_through_nested_routers(lib):
    app, outer, inner = lib.FastAPI(), lib.APIRouter(prefix="/o"), lib.APIRouter(prefix="/i")
    inner.websocket("/{x}", name="n")(says(lib, 1))
    outer.include_router(inner)
    app.include_router(outer, prefix="/p")
    assert app.url_path_for("n", x=1) == "/p/o/i/1"
    assert outer.url_path_for("n", x=1) == "/o/i/1"
    assert inner.url_path_for("n", x=1) == "/i/1"


def test_url_path_for_a_named_mount(lib):
    app, sub = lib.FastAPI(), lib.FastAPI()
    sub.websocket("/{x}", name="child")(says(lib, 1))
    app.mount("/{m}", sub, name="mount")
    found = app.url_path_for("mount:child", m="sub", x=1)
    assert (str(found), found.protocol) == ("/sub/1", "websocket")
    assert app.url_path_for("mount", m="sub", path="/any/thing") == "/sub/any/thing"
    with pytest.raises(lib.NoMatchFound):
        app.url_path_for("child", m="sub", x=1)


def test_url_path_for_a_mount_without_name(lib):
    app, sub = lib.FastAPI(), lib.FastAPI()
    sub.websocket("/a", name="child")(says(lib, 1))
    app.mount("/sub", sub)
    assert app.url_path_for("child") == "/sub/a"


def test_url_path_for_a_child_with_a_parameter_called_path(lib):
    app, sub = lib.FastAPI(), lib.FastAPI()
    sub.websocket("/{path:path}", name="child")(says(lib, 1))
    app.mount("/sub", sub, name="mount")
    assert app.url_path_for("mount:child", path="a/b") == "/sub/a/b"


def test_url_path_for_a_mount_in_a_mount(lib):
    app, middle, sub = lib.FastAPI(), lib.FastAPI(), lib.FastAPI()
    sub.websocket("/a", name="child")(says(lib, 1))
    middle.mount("/two", sub, name="two")
    app.mount("/one", middle, name="one")
    assert app.url_path_for("one:two:child") == "/one/two/a"


@pytest.mark.parametrize("name", ["mount", "mount:missing", "mount:child", "other:child"])
def test_no_match_found_in_a_mount(lib, name):
    app, sub = lib.FastAPI(), lib.FastAPI()
    sub.websocket("/{x}", name="child")(says(lib, 1))
    app.mount("/sub", sub, name="mount")
    with pytest.raises(lib.NoMatchFound) as caught:
        app.url_path_for(name)
    assert str(caught.value) == f'No route exists for name "{name}" and params "".'


@pytest.mark.parametrize(
    ("name", "params"),
    [("mount", {"path": "/a", "x": "1"}), ("hosts", {"path": "/a", "x": "1"}), ("hosts:no", {})],
)
def test_no_match_found_in_a_mount_or_host_for_other_parameters(lib, name, params):
    app, sub = lib.FastAPI(), lib.FastAPI()
    sub.websocket("/", name="child")(says(lib, 1))
    app.mount("/sub", sub, name="mount")
    app.host("a.example.org", sub, name="hosts")
    with pytest.raises(lib.NoMatchFound):
        app.url_path_for(name, **params)


# URLPath and url_for()


@pytest.mark.parametrize(
    ("protocol", "host", "base", "url"),
    [
        ("websocket", "", "http://example.org/", "ws://example.org/a"),
        ("websocket", "", "https://example.org/", "wss://example.org/a"),
        ("websocket", "", "ws://example.org/", "ws://example.org/a"),
        ("websocket", "", "wss://example.org:8443/", "wss://example.org:8443/a"),
        ("websocket", "", "https://example.org/root/", "wss://example.org/root/a"),
        ("websocket", "", "https://example.org/root", "wss://example.org/root/a"),
        ("websocket", "h.org", "https://example.org/root", "wss://h.org/root/a"),
        ("http", "", "wss://example.org/", "https://example.org/a"),
        ("http", "", "ws://example.org/", "http://example.org/a"),
        ("", "", "https://example.org/", "https://example.org/a"),
        ("", "", "wss://example.org/", "wss://example.org/a"),
    ],
)
def test_make_absolute_url(lib, protocol, host, base, url):
    path = lib.URLPath("/a", protocol=protocol, host=host)
    assert str(path.make_absolute_url(base)) == url
    assert str(path.make_absolute_url(base_url=lib.URL(base))) == url


def test_url_path_is_a_string(lib):
    path = lib.URLPath("/a")
    assert path == "/a"
    assert isinstance(path, str)


def test_url_path_of_an_unknown_protocol(lib):
    with pytest.raises(AssertionError):
        lib.URLPath("/a", protocol="ftp")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("/ws", "ws://testserver/other/1"),
        ("wss://example.org/ws", "wss://example.org/other/1"),
        ("ws://example.org:8000/ws", "ws://example.org:8000/other/1"),
    ],
)
def test_url_for(lib, url, expected):
    app = lib.FastAPI()
    app.websocket("/other/{x}", "other")(says(lib, 1))
    app.websocket("/ws")(tells(lib, lambda websocket: str(websocket.url_for("other", x=1))))
    assert answer(lib, app, url) == expected


def test_url_for_with_a_root_path(lib):
    app = lib.FastAPI()
    app.websocket("/ws", "me")(tells(lib, lambda websocket: str(websocket.url_for("me"))))
    assert answer(lib, app, "/api/ws", root_path="/api") == "ws://testserver/api/ws"


def test_url_for_in_a_mounted_application_starts_at_the_top(lib):
    app, sub = lib.FastAPI(), lib.FastAPI()
    sub.websocket("/ws", "child")(
        tells(lib, lambda websocket: [str(websocket.url_for("top")), str(websocket.url_for("mount:child"))])
    )
    app.websocket("/top", "top")(says(lib, 1))
    app.mount("/sub", sub, name="mount")
    assert answer(lib, app, "/sub/ws") == ["ws://testserver/top", "ws://testserver/sub/ws"]


def test_url_for_a_name_of_the_mounted_application_alone(lib):
    app, sub = lib.FastAPI(), lib.FastAPI()
    sub.websocket("/ws", "child")(tells(lib, lambda websocket: str(websocket.url_for("child"))))
    app.mount("/sub", sub, name="mount")
    with pytest.raises(lib.NoMatchFound):
        answer(lib, app, "/sub/ws")


def test_url_for_an_included_route(lib):
    app, router = lib.FastAPI(), lib.APIRouter(prefix="/r")
    router.websocket("/ws", "me")(tells(lib, lambda websocket: str(websocket.url_for("me"))))
    app.include_router(router)
    assert answer(lib, app, "/r/ws") == "ws://testserver/r/ws"


def test_url_for_in_a_router_alone(lib):
    router = lib.Router(
        [lib.WebSocketRoute("/ws", tells(lib, lambda websocket: str(websocket.url_for("n"))), name="n")]
    )
    assert answer(lib, router, "/ws") == "ws://testserver/ws"


def test_url_for_gives_a_url(lib):
    app = lib.FastAPI()
    app.websocket("/ws", "me")(
        tells(lib, lambda websocket: str(websocket.url_for("me").include_query_params(a=1)))
    )
    assert answer(lib, app, "/ws") == "ws://testserver/ws?a=1"


def test_routes_are_matched_without_a_test_client(lib):
    """An ASGI call without a test client."""
    app = lib.FastAPI()
    app.websocket("/a")(says(lib, "a"))
    assert [message["type"] for message in converse(app, path="/a")[:2]] == [
        "websocket.accept",
        "websocket.send",
    ]


# Methods that a subclass overrides


def prefixing(lib, base, method):
    """A subclass of `base` that extends the path in one of its public methods."""

    def override(self, path, *args, **kwargs):
        return getattr(super(kind, self), method)(f"/mine{path}", *args, **kwargs)

    kind = type("Prefixing", (base,), {method: override})
    return kind


@pytest.mark.parametrize("base", ["FastAPI", "APIRouter"])
def test_the_decorator_calls_add_api_websocket_route(lib, base):
    owner = prefixing(lib, getattr(lib, base), "add_api_websocket_route")()
    owner.websocket("/ws", "named")(says(lib, 1))
    assert owner.routes[-1].path == "/mine/ws"
    assert owner.url_path_for("named") == "/mine/ws"


def test_an_application_calls_add_api_websocket_route_of_its_router(lib):
    app = lib.FastAPI()
    app.router = prefixing(lib, lib.APIRouter, "add_api_websocket_route")()
    app.websocket("/ws")(says(lib, 1))
    app.add_api_websocket_route("/other", says(lib, 2))
    assert answer(lib, app, "/mine/ws") == 1
    assert answer(lib, app, "/mine/other") == 2


@pytest.mark.filterwarnings("ignore:The `websocket_route` decorator is deprecated")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_decorator_of_starlette_calls_add_websocket_route(lib):
    router = prefixing(lib, lib.APIRouter, "add_websocket_route")()
    router.websocket_route("/ws")(says(lib, 1))
    app = lib.FastAPI()
    app.router = router
    app.websocket_route("/other")(says(lib, 2))
    assert [answer(lib, app, path) for path in ("/mine/ws", "/mine/other")] == [1, 2]


@pytest.mark.parametrize(
    ("method", "call"),
    [
        ("mount", lambda lib, app: app.mount("/x", lib.FastAPI())),
        ("host", lambda lib, app: app.host("x", lib.FastAPI())),
        ("include_router", lambda lib, app: app.include_router(lib.APIRouter())),
        ("url_path_for", lambda lib, app: app.url_path_for("name")),
        ("add_event_handler", lambda lib, app: app.router.on_event("startup")(print)),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_application_calls_its_router(lib, method, call):
    called = []

    class Own(lib.APIRouter):
        pass

    setattr(Own, method, lambda self, *args, **kwargs: called.append(method))
    app = lib.FastAPI()
    app.router = Own()
    call(lib, app)
    assert called == [method]


def test_handlers_of_an_included_router_are_added_by_a_method(lib):
    added = []

    class Own(lib.APIRouter):
        def add_event_handler(self, event_type, func):
            added.append((event_type, func))

    inner = lib.APIRouter(on_startup=[print], on_shutdown=[repr])
    Own().include_router(inner)
    assert added == [("startup", print), ("shutdown", repr)]


def test_the_decorator_calls_add_exception_handler(lib):
    added = []

    class Own(lib.FastAPI):
        def add_exception_handler(self, exc_class_or_status_code, handler):
            added.append((exc_class_or_status_code, handler))

    Own().exception_handler(404)(print)
    assert added == [(404, print)]


@pytest.mark.parametrize("method", ["__call__", "app"])
def test_a_router_of_its_own_is_called(lib, method):
    called = []

    class Own(lib.APIRouter):
        pass

    async def override(self, scope, receive, send):
        if scope["type"] == "websocket":
            called.append(method)
        await getattr(super(Own, self), method)(scope, receive, send)

    setattr(Own, method, override)
    app = lib.FastAPI()
    app.router = Own()
    app.websocket("/ws")(says(lib, 1))
    assert answer(lib, app, "/ws") == 1
    assert called == [method]


def test_not_found_of_a_subclass(lib):
    class Own(lib.APIRouter):
        async def not_found(self, scope, receive, send):
            await send({"type": "websocket.close", "code": 4404, "reason": ""})

    app = lib.FastAPI()
    app.router = Own()
    assert refused(lib, app, "/nowhere") == 4404


# Routes by themselves


def test_an_included_router_matches(lib):
    app, router = lib.FastAPI(), lib.APIRouter()
    router.add_api_websocket_route("/a/{name}", says(lib, 1))
    app.include_router(router, prefix="/in")
    included = app.router.routes[-1]
    assert included.matches(websocket_scope("/in/a/b"))[0].name == "FULL"
    assert included.matches(websocket_scope("/a/b"))[0].name == "NONE"


def test_contexts_of_routes(lib):
    contexts_of = lib.module("fastapi.routing").iter_route_contexts
    app, router = lib.FastAPI(openapi_url=None), lib.APIRouter()
    router.add_api_websocket_route("/b", says(lib, 1))
    app.add_api_websocket_route("/a", says(lib, 1))
    app.include_router(router, prefix="/in")
    contexts = list(contexts_of(app.routes))
    assert [context.path for context in contexts] == ["/a", "/in/b"]
    assert contexts[0].original_route is app.routes[0]
    assert list(contexts_of(contexts)) == contexts


def test_a_route_in_a_mount(lib):
    app = lib.FastAPI()
    app.mount("/in", lib.WebSocketRoute("/ws", says(lib, 1)))
    assert answer(lib, app, "/in/ws") == 1
    assert refused(lib, app, "/in/other") == 1000


def test_a_class_whose_instances_can_be_awaited_is_an_endpoint(lib):
    class Visit:
        def __init__(self, websocket: lib.WebSocket, name: str):
            self.websocket, self.name = websocket, name

        def __await__(self):
            return self.run().__await__()

        async def run(self):
            await self.websocket.accept()
            await self.websocket.send_json(self.name)

    app = lib.FastAPI()
    app.add_api_websocket_route("/ws/{name}", Visit)
    assert answer(lib, app, "/ws/ann") == "ann"
