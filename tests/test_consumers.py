"""Each route is a Channels consumer, and works with `URLRouter`, middleware and test tools."""

import asyncio
import uuid

import pytest
from channels.consumer import AsyncConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import get_channel_layer
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.testing import WebsocketCommunicator
from django.urls import path, re_path

from fastws_compat import APIRouter, Depends, FastAPI, HTTPException, Query, WebSocket, WebSocketException
from fastws_compat.endpoints import WebSocketEndpoint
from fastws_compat.middleware import Middleware
from fastws_compat.routing import APIWebSocketRoute, Host, Mount, WebSocketRoute
from tests.fake_server import CONNECT, FakeServer, websocket_scope

UUID = "01234567-89ab-cdef-0123-456789abcdef"


def says(word):
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await websocket.send_json(word)

    return endpoint


def tells(look):
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await websocket.send_json(look(websocket))

    return endpoint


def answer(application, url, **options):
    """The first JSON text of the socket at `url`."""

    async def main():
        communicator = WebsocketCommunicator(application, url, **options)
        accepted, _ = await communicator.connect()
        assert accepted
        value = await communicator.receive_json_from()
        await communicator.disconnect()
        return value

    return asyncio.run(main())


def refused(application, url, **options):
    """The close code of a socket that is not accepted."""

    async def main():
        communicator = WebsocketCommunicator(application, url, **options)
        accepted, code = await communicator.connect()
        assert not accepted
        await communicator.wait()
        return code

    return asyncio.run(main())


class Legacy(AsyncWebsocketConsumer):
    async def connect(self):
        await self.accept()
        await self.send(text_data='"legacy"')


# The class


def test_consumer_is_named_and_described_like_its_endpoint():
    app = FastAPI()

    @app.websocket("/ws")
    async def chat(websocket: WebSocket):
        """Chat with everybody."""

    consumer = app.routes[-1].consumer
    assert issubclass(consumer, AsyncConsumer)
    assert (consumer.__name__, consumer.__doc__, consumer.__module__) == (
        "chat",
        "Chat with everybody.",
        __name__,
    )


def test_consumer_of_a_callable_object_has_the_name_of_its_class():
    class Chat:
        async def __call__(self, websocket: WebSocket): ...

    assert APIWebSocketRoute("/ws", Chat()).consumer.__name__ == "Chat"


def test_every_route_has_its_own_consumer_and_keeps_it():
    app = FastAPI()
    endpoint = says(1)
    app.websocket("/a")(endpoint)
    app.websocket("/b")(endpoint)
    first, second = app.routes
    assert first.consumer is first.consumer
    assert first.consumer is not second.consumer
    assert first.consumer.route is first


def test_as_asgi_shows_its_consumer_class():
    route = APIWebSocketRoute("/ws", says(1))
    assert route.consumer.as_asgi().consumer_class is route.consumer


def test_urlpatterns_hold_consumers_by_name():
    app = FastAPI()
    app.websocket("/ws", name="chat")(says(1))
    [pattern] = app.websocket_urlpatterns
    assert pattern.name == "chat"
    assert pattern.callback.consumer_class is app.routes[-1].consumer


def test_consumer_has_scope_and_channel_layer():
    consumer = APIWebSocketRoute("/ws", says(1)).consumer()
    server, scope = FakeServer(CONNECT), websocket_scope()
    send = server.send
    asyncio.run(consumer(scope, server.receive, send))
    assert consumer.scope is scope
    assert consumer.base_send is send
    assert consumer.channel_layer is get_channel_layer()
    assert server.types == ["websocket.accept", "websocket.send", "websocket.close"]


def test_urlpatterns_complete_daphne_and_an_application_alone_does_not(monkeypatch):
    installed = []
    monkeypatch.setattr("fastws_compat.daphne.install", lambda: installed.append(True))
    app = FastAPI()
    app.websocket("/ws")(says(1))
    assert installed == []
    assert len(app.websocket_urlpatterns) == 1
    assert installed == [True]


# Ways to serve a route


def app_with_chat():
    app = FastAPI()

    @app.websocket("/chat/{room}")
    async def chat(websocket: WebSocket, room: str, number: int = 0):
        await websocket.accept()
        await websocket.send_json([room, number])

    return app


def test_application_itself():
    assert answer(app_with_chat(), "/chat/red?number=5") == ["red", 5]


def test_url_router():
    assert answer(URLRouter(app_with_chat().websocket_urlpatterns), "/chat/red?number=5") == ["red", 5]


def test_consumer_alone_finds_its_parameters_in_the_path():
    route = app_with_chat().routes[-1]
    assert answer(route.consumer.as_asgi(), "/chat/red?number=5") == ["red", 5]


def test_consumer_of_a_route_without_application():
    assert answer(APIWebSocketRoute("/ws", says("alone")).consumer.as_asgi(), "/ws") == "alone"


def test_consumer_in_a_hand_written_path():
    route = app_with_chat().routes[-1]
    router = URLRouter([path("other/<str:room>/", route.consumer.as_asgi())])
    assert answer(router, "/other/red/") == ["red", 0]


def test_patterns_beside_a_consumer_written_by_hand():
    router = URLRouter([*app_with_chat().websocket_urlpatterns, path("legacy/", Legacy.as_asgi())])
    assert answer(router, "/chat/red") == ["red", 0]
    assert answer(router, "/legacy/") == "legacy"


def test_consumer_written_by_hand_comes_first():
    router = URLRouter([path("chat/red", Legacy.as_asgi()), *app_with_chat().websocket_urlpatterns])
    assert answer(router, "/chat/red") == "legacy"
    assert answer(router, "/chat/blue") == ["blue", 0]


def test_protocol_type_router():
    router = ProtocolTypeRouter({"websocket": URLRouter(app_with_chat().websocket_urlpatterns)})
    assert answer(router, "/chat/red") == ["red", 0]


def test_path_that_no_pattern_has():
    async def main():
        communicator = WebsocketCommunicator(URLRouter(app_with_chat().websocket_urlpatterns), "/nothing")
        with pytest.raises(ValueError, match="No route found for path 'nothing'"):
            await communicator.connect()

    asyncio.run(main())


def test_nested_url_router_with_a_prefix():
    router = URLRouter([path("api/", URLRouter(app_with_chat().websocket_urlpatterns))])
    assert answer(router, "/api/chat/red") == ["red", 0]


def test_nested_url_router_with_a_parameter():
    app = FastAPI()
    app.websocket("/{seat:int}")(tells(lambda websocket: websocket.path_params))
    router = URLRouter([path("<str:tenant>/", URLRouter(app.websocket_urlpatterns))])
    assert answer(router, "/acme/5") == {"tenant": "acme", "seat": 5}


def test_two_applications_in_one_router():
    one, two = FastAPI(), FastAPI()
    one.websocket("/one")(says(1))
    two.websocket("/two")(says(2))
    router = URLRouter([*one.websocket_urlpatterns, *two.websocket_urlpatterns])
    assert [answer(router, "/one"), answer(router, "/two")] == [1, 2]


def test_root_path_of_the_server():
    class Below:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            await self.app({**scope, "root_path": "/api"}, receive, send)

    router = Below(URLRouter(app_with_chat().websocket_urlpatterns))
    assert answer(router, "/api/chat/red") == ["red", 0]


# Paths


@pytest.mark.parametrize(
    ("template", "url", "params"),
    [
        ("/{x}", "/a", {"x": "a"}),
        ("/{x:int}", "/012", {"x": 12}),
        ("/{x:float}", "/1.5", {"x": 1.5}),
        ("/{x:float}", "/2", {"x": 2.0}),
        ("/{x:path}", "/a/b/c", {"x": "a/b/c"}),
        ("/files/{x:path}", "/files/", {"x": ""}),
        ("/{x:uuid}", f"/{UUID}", {"x": uuid.UUID(UUID)}),
        ("/{x}/{y:int}", "/a/1", {"x": "a", "y": 1}),
        ("/a.b", "/a.b", {}),
        ("/", "/", {}),
    ],
)
def test_convertors_in_a_url_router(template, url, params):
    app = FastAPI()
    app.websocket(template)(tells(lambda websocket: repr(websocket.path_params)))
    assert answer(URLRouter(app.websocket_urlpatterns), url) == repr(params)


@pytest.mark.parametrize(
    ("template", "url"),
    [("/{x:int}", "/a"), ("/{x}", "/a/b"), ("/ws", "/ws/"), ("/a.b", "/aXb"), ("/ws", "/wss")],
)
def test_convertors_that_do_not_match_in_a_url_router(template, url):
    app = FastAPI()
    app.websocket(template)(says("wrong"))
    router = URLRouter([*app.websocket_urlpatterns, re_path("^", Legacy.as_asgi())])
    assert answer(router, url) == "legacy"


def test_scope_additions_in_a_url_router():
    app = FastAPI()

    def look(websocket):
        scope = websocket.scope
        return [
            scope["route"] is app.routes[-1],
            scope["app"] is app,
            scope["router"] is app.router,
            scope["endpoint"] is app.routes[-1].endpoint,
            str(websocket.url_for("me", x=1).path),
        ]

    app.websocket("/{x}", name="me")(tells(look))
    assert answer(URLRouter(app.websocket_urlpatterns), "/a") == [True, True, True, True, "/1"]


# Routers, mounts, hosts


def test_included_router_as_patterns():
    app, router = FastAPI(), APIRouter(prefix="/r", dependencies=[Depends(says_nothing)])
    router.websocket("/{x}")(tells(lambda websocket: [websocket.scope["route"].path, websocket.path_params]))
    app.include_router(router, prefix="/i")
    assert answer(URLRouter(app.websocket_urlpatterns), "/i/r/a") == ["/i/r/{x}", {"x": "a"}]


def says_nothing():
    """A dependency."""


def test_patterns_of_a_router_alone():
    router = APIRouter(prefix="/r")
    router.websocket("/{x}")(tells(lambda websocket: websocket.path_params))
    assert answer(URLRouter(router.websocket_urlpatterns), "/r/a") == {"x": "a"}


def test_patterns_are_those_of_now():
    app = FastAPI()
    app.websocket("/a")(says(1))
    before = app.websocket_urlpatterns
    app.websocket("/b")(says(2))
    assert (len(before), len(app.websocket_urlpatterns)) == (1, 2)


def test_mounted_application_as_a_pattern():
    app, sub = FastAPI(), FastAPI()
    sub.websocket("/{x}")(tells(lambda websocket: [websocket.path_params, websocket.scope["root_path"]]))
    app.mount("/sub/{tenant}", sub)
    assert answer(URLRouter(app.websocket_urlpatterns), "/sub/acme/a") == [
        {"tenant": "acme", "x": "a"},
        "/sub/acme",
    ]


def test_mount_of_routes_as_a_pattern():
    app = FastAPI(routes=[Mount("/sub", routes=[WebSocketRoute("/a", says("mounted"))])])
    assert answer(URLRouter(app.websocket_urlpatterns), "/sub/a") == "mounted"


def test_consumer_written_by_hand_below_a_mount():
    app = FastAPI()
    app.mount("/legacy", Legacy.as_asgi())
    assert answer(app, "/legacy/any") == "legacy"
    assert answer(URLRouter(app.websocket_urlpatterns), "/legacy/any") == "legacy"


def test_host_as_a_pattern():
    sub = FastAPI()
    sub.websocket("/a")(says("host"))
    app = FastAPI(routes=[Host("{tenant}.example.org", sub), WebSocketRoute("/a", says("main"))])
    router = URLRouter(app.websocket_urlpatterns)
    assert answer(router, "/a", headers=[(b"host", b"acme.example.org")]) == "host"
    assert answer(router, "/a", headers=[(b"host", b"other.org")]) == "main"


def test_raw_route_as_a_pattern():
    app = FastAPI()
    app.websocket_route("/{x:int}")(tells(lambda websocket: websocket.path_params))
    assert answer(URLRouter(app.websocket_urlpatterns), "/5") == {"x": 5}


def test_endpoint_class_as_a_pattern():
    class Echo(WebSocketEndpoint):
        async def on_connect(self, websocket):
            await websocket.accept()
            await websocket.send_json(type(self).__name__)

    app = FastAPI()
    app.websocket_route("/ws")(Echo)
    router = URLRouter(app.websocket_urlpatterns)
    assert answer(router, "/ws") == "Echo"


# The application around its patterns


class Stamp:
    """Middleware that adds a key to the scope."""

    def __init__(self, app, word="stamped"):
        self.app = app
        self.word = word

    async def __call__(self, scope, receive, send):
        scope["stamp"] = self.word
        await self.app(scope, receive, send)


@pytest.mark.parametrize("way", ["application", "patterns", "consumer"])
def test_middleware_applies(way):
    app = FastAPI(middleware=[Middleware(Stamp, word="x")])
    app.websocket("/ws")(tells(lambda websocket: websocket.scope["stamp"]))
    ways = {
        "application": app,
        "patterns": URLRouter(app.websocket_urlpatterns),
        "consumer": app.routes[-1].consumer.as_asgi(),
    }
    assert answer(ways[way], "/ws") == "x"


@pytest.mark.parametrize("way", ["application", "patterns", "consumer"])
def test_exception_handlers_apply(way):
    app = FastAPI()

    @app.exception_handler(LookupError)
    async def handler(websocket, exc):
        await websocket.close(4001)

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        raise LookupError

    ways = {
        "application": app,
        "patterns": URLRouter(app.websocket_urlpatterns),
        "consumer": app.routes[-1].consumer.as_asgi(),
    }
    assert refused(ways[way], "/ws") == 4001


def test_middleware_refuses_in_a_url_router():
    class Refuse:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            await send({"type": "websocket.close", "code": 4003})

    app = FastAPI(middleware=[Middleware(Refuse)])
    app.websocket("/ws")(says("wrong"))
    assert refused(URLRouter(app.websocket_urlpatterns), "/ws") == 4003


def test_channels_middleware_around_the_application():
    app = FastAPI()
    app.websocket("/ws")(tells(lambda websocket: websocket.scope["stamp"]))
    assert answer(Stamp(URLRouter(app.websocket_urlpatterns)), "/ws") == "stamped"
    assert answer(Stamp(app), "/ws") == "stamped"


def test_dependency_overrides_apply_in_a_url_router():
    app = FastAPI()

    def word():
        return "original"

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket, value: str = Depends(word)):
        await websocket.accept()
        await websocket.send_json(value)

    router = URLRouter(app.websocket_urlpatterns)
    assert answer(router, "/ws") == "original"
    app.dependency_overrides[word] = lambda: "override"
    assert answer(router, "/ws") == "override"


# The end of a consumer, as Channels sees it


@pytest.mark.parametrize("way", ["application", "patterns", "consumer"])
def test_endpoint_that_returns_closes(way):
    app = FastAPI()
    app.websocket("/ws")(says("last"))
    ways = {
        "application": app,
        "patterns": URLRouter(app.websocket_urlpatterns),
        "consumer": app.routes[-1].consumer.as_asgi(),
    }

    async def main():
        communicator = WebsocketCommunicator(ways[way], "/ws")
        await communicator.connect()
        await communicator.receive_json_from()
        closed = await communicator.receive_output()
        await communicator.wait()
        return closed

    assert asyncio.run(main()) == {"type": "websocket.close", "code": 1000, "reason": ""}


def test_endpoint_reads_until_the_client_leaves():
    app, seen = FastAPI(), []

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_text(text.upper())
        seen.append("over")

    async def main():
        communicator = WebsocketCommunicator(URLRouter(app.websocket_urlpatterns), "/ws")
        await communicator.connect()
        await communicator.send_to(text_data="hello")
        assert await communicator.receive_from() == "HELLO"
        await communicator.disconnect()

    asyncio.run(main())
    assert seen == ["over"]


def test_subprotocol_and_headers_of_accept():
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept(subprotocol="b", headers=[(b"x-a", b"1")])

    async def main():
        communicator = WebsocketCommunicator(app, "/ws", subprotocols=["a", "b"])
        assert await communicator.connect() == (True, "b")
        assert communicator.response_headers == [(b"x-a", b"1")]
        await communicator.wait()

    asyncio.run(main())


def test_refusals_without_the_denial_extension_are_closes():
    app = FastAPI()

    @app.websocket("/http")
    async def http(websocket: WebSocket):
        raise HTTPException(401)

    @app.websocket("/websocket")
    async def websocket(websocket: WebSocket):
        raise WebSocketException(4001)

    @app.websocket("/validation")
    async def validation(websocket: WebSocket, number: int = Query()): ...

    router = URLRouter(app.websocket_urlpatterns)
    assert [refused(router, url) for url in ("/http", "/websocket", "/validation")] == [1000, 4001, 1008]


def test_endpoint_and_channel_layer():
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        layer = get_channel_layer()
        channel = await layer.new_channel()
        await layer.send(channel, {"type": "note", "text": "through the layer"})
        await websocket.send_json((await layer.receive(channel))["text"])

    assert answer(URLRouter(app.websocket_urlpatterns), "/ws") == "through the layer"
