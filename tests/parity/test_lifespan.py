"""The lifespan: its forms, the state of connections, the lifespans of routers, and failures."""

import asyncio
import warnings
from contextlib import asynccontextmanager

import pytest

from tests.fake_server import FakeServer


def state_of(lib, client, url="/ws"):
    """The message that the endpoint of `reports_state` sends."""
    with client.websocket_connect(url) as websocket:
        return websocket.receive_json()


def reports_state(lib, app, path="/ws"):
    @app.websocket(path)
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.send_json({name: websocket.scope["state"][name] for name in websocket.scope["state"]})


def talk(app, *messages, **scope):
    """Run the lifespan without a server; return what the application sends and raises."""
    server = FakeServer(*({"type": f"lifespan.{message}"} for message in messages))
    try:
        asyncio.run(app({"type": "lifespan", **scope}, server.receive, server.send))
    except Exception as exc:
        return server.sent, exc
    return server.sent, None


def noting(seen, word, state=None):
    """A lifespan that records its start and its end."""

    @asynccontextmanager
    async def lifespan(app):
        seen.append(word)
        yield state
        seen.append(f"/{word}")

    return lifespan


# Its forms


def test_context_manager(lib):
    seen = []
    app = lib.FastAPI(lifespan=noting(seen, "x"))
    with lib.TestClient(app):
        assert seen == ["x"]
    assert seen == ["x", "/x"]


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_generator(lib, kind):
    seen = []

    def sync_lifespan(app):
        seen.append("begin")
        yield {"number": 5}
        seen.append("end")

    async def async_lifespan(app):
        for state in sync_lifespan(app):
            yield state

    lifespan = sync_lifespan if kind == "sync" else async_lifespan
    app = lib.FastAPI(lifespan=lifespan)
    reports_state(lib, app)
    with lib.TestClient(app) as client:
        assert state_of(lib, client) == {"number": 5}
    assert seen == ["begin", "end"]


def test_class(lib):
    seen = []

    class Lifespan:
        def __init__(self, app):
            seen.append(app)

        async def __aenter__(self):
            return {"number": 5}

        async def __aexit__(self, *exc_info):
            seen.append(exc_info)

    app = lib.FastAPI(lifespan=Lifespan)
    reports_state(lib, app)
    with lib.TestClient(app) as client:
        assert state_of(lib, client) == {"number": 5}
    assert seen == [app, (None, None, None)]


@pytest.mark.filterwarnings("ignore:(async )?generator function lifespans are deprecated")
@pytest.mark.parametrize("kind", ["generator", "async generator"])
def test_starlettes_router_takes_generators(lib, kind):
    seen = []

    def generator(app):
        seen.append("begin")
        yield
        seen.append("end")

    async def async_generator(app):
        seen.append("begin")
        yield
        seen.append("end")

    router = lib.Router(lifespan=generator if kind == "generator" else async_generator)
    with lib.TestClient(router):
        assert seen == ["begin"]
    assert seen == ["begin", "end"]


def test_lifespan_gets_the_application(lib):
    seen = []

    @asynccontextmanager
    async def lifespan(app):
        seen.append(app)
        app.state.pool = "pool"
        yield

    app = lib.FastAPI(lifespan=lifespan)

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.send_json(websocket.app.state.pool)

    with lib.TestClient(app) as client:
        assert state_of(lib, client) == "pool"
    assert seen == [app]


def test_no_lifespan_at_all(lib):
    app = lib.FastAPI()
    reports_state(lib, app)
    with lib.TestClient(app) as client:
        assert state_of(lib, client) == {}


def test_lifespan_does_not_run_without_with(lib):
    seen = []
    app = lib.FastAPI(lifespan=noting(seen, "x"))
    reports_state(lib, app)
    assert state_of(lib, lib.TestClient(app)) == {}
    assert seen == []


def test_lifespan_runs_again_with_every_with(lib):
    seen = []
    client = lib.TestClient(lib.FastAPI(lifespan=noting(seen, "x")))
    for _ in range(2):
        with client:
            pass
    assert seen == ["x", "/x", "x", "/x"]


def test_lifespan_and_connections_share_an_event_loop(lib):
    loops = []

    @asynccontextmanager
    async def lifespan(app):
        loops.append(asyncio.get_running_loop())
        yield

    app = lib.FastAPI(lifespan=lifespan)

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket):
        loops.append(asyncio.get_running_loop())
        await websocket.accept()
        await websocket.send_json(1)

    with lib.TestClient(app) as client:
        state_of(lib, client)
    assert loops[0] is loops[1]


def test_task_of_the_lifespan_talks_to_connections(lib):
    @asynccontextmanager
    async def lifespan(app):
        queue = asyncio.Queue()
        await queue.put("from the lifespan")
        yield {"queue": queue}

    app = lib.FastAPI(lifespan=lifespan)

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.send_text(await websocket.state.queue.get())

    with lib.TestClient(app) as client, client.websocket_connect("/ws") as websocket:
        assert websocket.receive_text() == "from the lifespan"


# State


def test_state_reaches_connections(lib):
    app = lib.FastAPI(lifespan=noting([], "x", {"number": 5}))

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.send_json([websocket.state.number, websocket.scope["state"]])

    with lib.TestClient(app) as client:
        assert state_of(lib, client) == [5, {"number": 5}]


def test_state_is_copied_for_each_connection(lib):
    app = lib.FastAPI(lifespan=noting([], "x", {"number": 0}))

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket):
        websocket.state.number += 1
        await websocket.accept()
        await websocket.send_json(websocket.state.number)

    with lib.TestClient(app) as client:
        assert [state_of(lib, client) for _ in range(2)] == [1, 1]


def test_state_is_copied_shallowly(lib):
    app = lib.FastAPI(lifespan=noting([], "x", {"numbers": []}))

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket):
        websocket.state.numbers.append(1)
        await websocket.accept()
        await websocket.send_json(websocket.state.numbers)

    with lib.TestClient(app) as client:
        assert [state_of(lib, client) for _ in range(2)] == [[1], [1, 1]]


def test_state_of_the_application_is_another(lib):
    app = lib.FastAPI(lifespan=noting([], "x", {"number": 5}))

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.send_json(hasattr(websocket.app.state, "number"))

    with lib.TestClient(app) as client:
        assert state_of(lib, client) is False


def test_state_in_a_dependency(lib):
    app = lib.FastAPI(lifespan=noting([], "x", {"number": 5}))

    async def number(connection: lib.HTTPConnection):
        return connection.state.number

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, value: int = lib.Depends(number)):
        await websocket.accept()
        await websocket.send_json(value)

    with lib.TestClient(app) as client:
        assert state_of(lib, client) == 5


def test_state_reaches_mounted_applications(lib):
    app, sub = lib.FastAPI(lifespan=noting([], "x", {"number": 5})), lib.FastAPI()
    reports_state(lib, sub)
    app.mount("/sub", sub)
    with lib.TestClient(app) as client:
        assert state_of(lib, client, "/sub/ws") == {"number": 5}


# Routers


def test_lifespan_of_an_included_router(lib):
    seen = []
    app = lib.FastAPI(lifespan=noting(seen, "app"))
    app.include_router(lib.APIRouter(lifespan=noting(seen, "router")))
    with lib.TestClient(app):
        assert seen == ["app", "router"]
    assert seen == ["app", "router", "/router", "/app"]


def test_lifespan_of_an_included_router_alone(lib):
    seen = []
    app = lib.FastAPI()
    app.include_router(lib.APIRouter(lifespan=noting(seen, "router")))
    with lib.TestClient(app):
        assert seen == ["router"]
    assert seen == ["router", "/router"]


def test_lifespans_of_two_routers(lib):
    seen = []
    app = lib.FastAPI()
    for word in ("a", "b"):
        app.include_router(lib.APIRouter(lifespan=noting(seen, word)))
    with lib.TestClient(app):
        pass
    assert seen == ["a", "b", "/b", "/a"]


def test_lifespans_of_nested_routers(lib):
    seen = []
    app = lib.FastAPI(lifespan=noting(seen, "app"))
    outer, inner = (
        lib.APIRouter(lifespan=noting(seen, "outer")),
        lib.APIRouter(lifespan=noting(seen, "inner")),
    )
    outer.include_router(inner)
    app.include_router(outer)
    with lib.TestClient(app):
        pass
    assert seen == ["app", "outer", "inner", "/inner", "/outer", "/app"]


def test_lifespan_of_a_router_included_after_its_parent_was(lib):
    seen = []
    app, outer = lib.FastAPI(), lib.APIRouter()
    app.include_router(outer)
    outer.include_router(lib.APIRouter(lifespan=noting(seen, "late")))
    with lib.TestClient(app):
        pass
    assert seen == []


def test_lifespan_of_a_router_gets_the_application(lib):
    seen = []

    @asynccontextmanager
    async def lifespan(app):
        seen.append(app)
        yield

    app = lib.FastAPI()
    app.include_router(lib.APIRouter(lifespan=lifespan))
    with lib.TestClient(app):
        pass
    assert seen == [app]


def test_states_are_merged(lib):
    app = lib.FastAPI(lifespan=noting([], "x", {"app": 1, "both": "app"}))
    app.include_router(lib.APIRouter(lifespan=noting([], "x", {"router": 2, "both": "router"})))
    reports_state(lib, app)
    with lib.TestClient(app) as client:
        assert state_of(lib, client) == {"app": 1, "router": 2, "both": "app"}


def test_state_of_a_router_alone(lib):
    app = lib.FastAPI()
    app.include_router(lib.APIRouter(lifespan=noting([], "x", {"router": 2})))
    reports_state(lib, app)
    with lib.TestClient(app) as client:
        assert state_of(lib, client) == {"router": 2}


def test_lifespan_of_a_mounted_application_does_not_run(lib):
    seen = []
    app = lib.FastAPI()
    app.mount("/sub", lib.FastAPI(lifespan=noting(seen, "sub")))
    with lib.TestClient(app):
        pass
    assert seen == []


def test_lifespan_of_a_router_that_is_the_application(lib):
    seen = []
    with lib.TestClient(lib.APIRouter(lifespan=noting(seen, "router"))):
        assert seen == ["router"]
    assert seen == ["router", "/router"]


# on_startup and on_shutdown


@pytest.mark.parametrize("kind", ["FastAPI", "APIRouter"])
def test_startup_and_shutdown(lib, kind):
    seen = []

    async def later():
        seen.append("async startup")

    app = getattr(lib, kind)(
        on_startup=[lambda: seen.append("startup"), later], on_shutdown=[lambda: seen.append("shutdown")]
    )
    with lib.TestClient(app):
        assert seen == ["startup", "async startup"]
    assert seen == ["startup", "async startup", "shutdown"]


def test_startup_is_not_run_beside_a_lifespan(lib):
    seen = []
    app = lib.FastAPI(lifespan=noting(seen, "x"), on_startup=[lambda: seen.append("startup")])
    with lib.TestClient(app):
        pass
    assert seen == ["x", "/x"]


def test_startup_of_an_included_router_runs_for_both(lib):
    seen = []
    app = lib.FastAPI(on_startup=[lambda: seen.append("app")])
    app.include_router(lib.APIRouter(on_startup=[lambda: seen.append("router")]))
    with lib.TestClient(app):
        pass
    assert seen == ["app", "router", "router"]


def test_on_event(lib):
    seen = []
    app = lib.FastAPI()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)

        @app.on_event("startup")
        async def startup():
            seen.append("startup")

        @app.router.on_event("shutdown")
        def shutdown():
            seen.append("shutdown")

    assert startup.__name__ == "startup"
    with lib.TestClient(app):
        assert seen == ["startup"]
    assert seen == ["startup", "shutdown"]


def test_add_event_handler_of_a_router(lib):
    seen = []
    app = lib.FastAPI()
    app.router.add_event_handler("startup", lambda: seen.append("startup"))
    app.router.add_event_handler("shutdown", lambda: seen.append("shutdown"))
    with lib.TestClient(app):
        pass
    assert seen == ["startup", "shutdown"]


def test_add_event_handler_for_another_event(lib):
    with pytest.raises(AssertionError):
        lib.APIRouter().add_event_handler("other", lambda: None)


def test_startup_handlers_are_listed(lib):
    def startup(): ...

    router = lib.APIRouter(on_startup=[startup])
    assert (router.on_startup, router.on_shutdown) == ([startup], [])


def test_shutdown_follows_a_failure_of_an_included_lifespan(lib):
    seen = []

    @asynccontextmanager
    async def broken(app):
        raise LookupError("router")
        yield

    app = lib.FastAPI(on_startup=[lambda: seen.append("up")], on_shutdown=[lambda: seen.append("down")])
    app.include_router(lib.APIRouter(lifespan=broken))
    with pytest.raises(LookupError, match="router"), lib.TestClient(app):
        pass
    assert seen == ["up", "down"]


# Failures


def test_failure_at_startup(lib):
    @asynccontextmanager
    async def lifespan(app):
        raise LookupError("startup")
        yield

    with pytest.raises(LookupError, match="startup"), lib.TestClient(lib.FastAPI(lifespan=lifespan)):
        pass


def test_failure_at_shutdown(lib):
    @asynccontextmanager
    async def lifespan(app):
        yield
        raise LookupError("shutdown")

    with pytest.raises(LookupError, match="shutdown"), lib.TestClient(lib.FastAPI(lifespan=lifespan)):
        pass


def test_failure_of_a_startup_handler(lib):
    def startup():
        raise LookupError("startup")

    with pytest.raises(LookupError, match="startup"), lib.TestClient(lib.FastAPI(on_startup=[startup])):
        pass


def test_exception_handlers_are_not_for_the_lifespan(lib):
    seen = []

    @asynccontextmanager
    async def lifespan(app):
        raise LookupError("startup")
        yield

    app = lib.FastAPI(lifespan=lifespan, exception_handlers={LookupError: lambda *args: seen.append(args)})
    with pytest.raises(LookupError, match="startup"), lib.TestClient(app):
        pass
    assert seen == []


# The protocol


def test_messages(lib):
    sent, error = talk(lib.FastAPI(), "startup", "shutdown", state={})
    assert sent == [{"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}]
    assert error is None


def test_messages_of_a_failure_at_startup(lib):
    @asynccontextmanager
    async def lifespan(app):
        raise LookupError("why")
        yield

    [message], error = talk(lib.FastAPI(lifespan=lifespan), "startup", "shutdown", state={})
    assert message["type"] == "lifespan.startup.failed"
    assert message["message"].startswith("Traceback")
    assert "LookupError: why" in message["message"]
    assert str(error) == "why"


def test_messages_of_a_failure_at_shutdown(lib):
    @asynccontextmanager
    async def lifespan(app):
        yield
        raise LookupError("why")

    sent, error = talk(lib.FastAPI(lifespan=lifespan), "startup", "shutdown", state={})
    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.failed"]
    assert "LookupError: why" in sent[1]["message"]
    assert str(error) == "why"


def test_state_goes_into_the_servers_dict(lib):
    state = {"server": 1}
    talk(lib.FastAPI(lifespan=noting([], "x", {"number": 5})), "startup", "shutdown", state=state)
    assert state == {"server": 1, "number": 5}


def test_server_without_state(lib):
    [message], error = talk(lib.FastAPI(lifespan=noting([], "x", {"number": 5})), "startup", "shutdown")
    assert message["type"] == "lifespan.startup.failed"
    assert str(error) == 'The server does not support "state" in the lifespan scope.'


def test_server_without_state_and_a_lifespan_without_one(lib):
    sent, error = talk(lib.FastAPI(lifespan=noting([], "x")), "startup", "shutdown")
    assert [message["type"] for message in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    assert error is None


def test_empty_state_needs_the_servers_dict_too(lib):
    _, error = talk(lib.FastAPI(lifespan=noting([], "x", {})), "startup", "shutdown")
    assert isinstance(error, RuntimeError)
