"""Classes of FastAPI and Starlette in place of this library's are refused at import.

The classes and markers are read from the installed packages, so that none can be forgotten.
"""

import enum
import functools
import importlib
import inspect
import pkgutil
import re
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NewType, Optional, TypeVar

import fastapi
import fastapi.security
import pytest
import starlette.authentication
import starlette.config
import starlette.endpoints
import starlette.middleware.cors
import starlette.routing
from pydantic import BaseModel
from typing_extensions import is_typeddict

from fastws_compat import (
    APIRouter,
    APIWebSocketRoute,
    Depends,
    FastAPI,
    HTTPException,
    Query,
    Security,
    WebSocket,
)
from fastws_compat.asgi import get_asgi_application
from fastws_compat.convertors import register_url_convertor
from fastws_compat.endpoints import WebSocketEndpoint
from fastws_compat.exceptions import DeclarationError
from fastws_compat.middleware import Middleware
from fastws_compat.middleware.authentication import AuthenticationMiddleware
from fastws_compat.porting import foreign
from fastws_compat.routing import Mount, Router, WebSocketRoute, websocket_session
from fastws_compat.testclient import TestClient

SENTENCE = re.compile(
    r"[^\n]+ uses [\w., ]+, which (has no counterpart in fastws_compat: [^\n]+"
    r"|fastws_compat does not recognize: write '(?P<line>from fastws_compat[\w.]* import \w+)')\."
)


# The contents of the two packages


def public_modules() -> Iterator[types.ModuleType]:
    for package in (fastapi, starlette):
        yield package
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if "._" not in found.name:
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        yield importlib.import_module(found.name)
                except ImportError:  # of an optional dependency
                    continue


def public(is_meant: Callable[[Any], bool]) -> list[Any]:
    found = {
        value
        for module in public_modules()
        for name, value in list(vars(module).items())
        if not name.startswith("_") and is_meant(value)
        if str(value.__module__).startswith(("fastapi.", "starlette."))
    }
    return sorted(found, key=label)


def label(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


CLASSES = public(inspect.isclass)
FUNCTIONS = public(inspect.isfunction)
MARKERS = [function for function in FUNCTIONS if function.__module__ == "fastapi.param_functions"]
EXCEPTIONS = [cls for cls in CLASSES if issubclass(cls, Exception)]
ROUTES = [cls for cls in CLASSES if issubclass(cls, starlette.routing.BaseRoute)]

each_class = pytest.mark.parametrize("cls", CLASSES, ids=label)
# For combinations with every place: the gate tries each fourth class in all of them, `.ci/slow` each class.
each_class_everywhere = pytest.mark.parametrize(
    "cls",
    [pytest.param(cls, marks=[pytest.mark.slow] * bool(n % 4)) for n, cls in enumerate(CLASSES)],
    ids=label,
)
each_marker = pytest.mark.parametrize("marker", MARKERS, ids=label)
each_exception = pytest.mark.parametrize("cls", EXCEPTIONS, ids=label)


def test_the_packages_were_searched() -> None:
    assert {marker.__name__ for marker in MARKERS} == {
        *("Body", "Cookie", "Depends", "File", "Form", "Header", "Path", "Query", "Security")
    }
    assert {
        *(fastapi.params.Depends, fastapi.params.Header, fastapi.security.HTTPBearer, fastapi.WebSocket),
        *(starlette.requests.HTTPConnection, starlette.endpoints.WebSocketEndpoint, fastapi.APIRouter),
    } <= {*CLASSES}
    assert len(CLASSES) > 150
    assert len(EXCEPTIONS) > 10
    assert len(ROUTES) > 5


def current_user(user: str = "nobody") -> str:
    return user


def made(marker: Callable[..., Any]) -> Any:
    """The object that `fastapi.Depends(current_user)` or `fastapi.Header()` creates in source code."""
    return marker(current_user) if marker.__name__ in ("Depends", "Security") else marker()


def instance_of(cls: type) -> Any:
    """An instance of the class, or the class itself if it needs arguments."""
    if issubclass(cls, enum.Enum):
        return next(iter(cls))
    with warnings.catch_warnings(action="ignore"):
        try:
            made = cls.__new__(cls)
            hasattr(made, "missing")
        except (TypeError, RecursionError):
            return cls
    return made if type(made) is cls else cls


def subclass_of(cls: type) -> type:
    if is_typeddict(cls) or issubclass(cls, enum.Enum):
        return cls  # a subclass is impossible or does not show its origin
    with warnings.catch_warnings(action="ignore"):
        return types.new_class("Mine", (cls,))


# The places


def function_with(annotation: Any = ..., default: Any = ..., names: dict[str, Any] | None = None) -> Any:
    async def call(value): ...

    call = types.FunctionType(call.__code__, {**globals(), **(names or {})}, "call")
    call.__annotations__ = {} if annotation is ... else {"value": annotation}
    call.__defaults__ = None if default is ... else (default,)
    return call


async def endpoint(websocket: WebSocket) -> None: ...


def serve(endpoint: Any) -> None:
    FastAPI().add_api_websocket_route("/ws", endpoint)


def as_method(call: Any) -> Any:
    """`call` with `self` as an additional first parameter."""

    async def method(self, value): ...

    made = types.FunctionType(method.__code__, call.__globals__, "method", call.__defaults__)
    made.__annotations__ = call.__annotations__
    return made


def serve_wrapped(call: Any) -> None:
    @functools.wraps(call)
    async def wrapper(*args, **kwargs): ...

    serve(wrapper)


def serve_callback(call: Any) -> None:
    FastAPI().websocket_route("/ws")(type("Chat", (WebSocketEndpoint,), {"on_receive": as_method(call)}))


def handle(call: Any) -> None:
    FastAPI().add_exception_handler(HTTPException, call)


def last(call: Any) -> None:
    FastAPI(lifespan=call)


def needing(call: Any) -> Any:
    return function_with(default=Depends(call))


# The places where a function with a foreign parameter can be used.
HOLDERS: dict[str, Callable[[Any], object]] = {
    "endpoint": serve,
    "endpoint of a router": lambda call: APIRouter().websocket("/ws")(call),
    "endpoint of a route": lambda call: APIWebSocketRoute("/ws", call),
    "wrapped endpoint": serve_wrapped,
    "partial endpoint": lambda call: serve(functools.partial(call)),
    "dependency": lambda call: serve(needing(call)),
    "dependency in Annotated": lambda call: serve(function_with(Annotated[str, Depends(call)])),
    "dependency by Security": lambda call: serve(function_with(default=Security(call, scopes=["a"]))),
    "dependency far below": lambda call: serve(needing(needing(needing(call)))),
    "partial dependency": lambda call: serve(needing(functools.partial(call))),
    "class": lambda call: serve(needing(type("Dependency", (), {"__init__": as_method(call)}))),
    "callable object": lambda call: serve(needing(type("Dependency", (), {"__call__": as_method(call)})())),
    "bound method": lambda call: serve(needing(type("Dependency", (), {"find": as_method(call)})().find)),
    "without a parameter": lambda call: APIRouter().websocket("/ws", dependencies=[Depends(call)])(endpoint),
    "endpoint of Starlette's kind": lambda call: FastAPI().websocket_route("/ws")(call),
    "endpoint of Starlette's route": lambda call: WebSocketRoute("/ws", call),
    "callback": serve_callback,
    "exception handler": handle,
    "lifespan": last,
}

# The ways in which an annotation may name a class.
SHAPES: dict[str, Callable[[type], Any]] = {
    "alone": lambda cls: cls,
    "optional": lambda cls: Optional[cls],  # noqa: UP045
    "list": lambda cls: list[cls],
    "dict": lambda cls: dict[str, list[cls]],
    "Annotated": lambda cls: Annotated[cls, "words"],
    "Annotated with Query": lambda cls: Annotated[cls, Query()],
    "metadata": lambda cls: Annotated[str, cls],
    "object as metadata": lambda cls: Annotated[str, instance_of(cls)],
    "object as one of the metadata": lambda cls: Annotated[str, instance_of(cls), Query()],
    "metadata below": lambda cls: list[list[Annotated[str, instance_of(cls)]]],
    "Callable": lambda cls: Callable[[cls], None],
    "NewType": lambda cls: NewType("New", cls),
    "TypeVar": lambda cls: TypeVar("Bound", bound=cls),
    "subclass": subclass_of,
}
STRINGS = ["cls", "cls | None", "'cls'", "list['cls']", "Annotated[str, cls]", "Annotated[str, made]"]


def refused(act: Callable[[], object]) -> bool:
    """Whether it raises our error text, with an import line that works."""
    try:
        act()
    except DeclarationError as exc:
        said = str(exc)
    else:
        return False
    sentence = SENTENCE.fullmatch(said)
    assert sentence is not None, said
    exec(sentence["line"] or "", {})
    return True


# Annotations and defaults


@each_class
def test_class_in_an_annotation(cls: type) -> None:
    passed = [name for name, shape in SHAPES.items() if not refused(lambda: serve(function_with(shape(cls))))]
    assert passed == []


@each_class
def test_class_in_a_string(cls: type) -> None:
    names = {"cls": cls, "made": instance_of(cls)}
    passed = [text for text in STRINGS if not refused(lambda: serve(function_with(text, names=names)))]
    assert passed == []


@each_class
def test_class_as_a_default(cls: type) -> None:
    defaults = [cls, instance_of(cls), Query(cls), Query(default_factory=cls), subclass_of(cls)]
    passed = [default for default in defaults if not refused(lambda: serve(function_with(str, default)))]
    assert passed == []


@each_class_everywhere
def test_class_in_every_kind_of_function(cls: type) -> None:
    passed = [
        (name, value)
        for name, hold in HOLDERS.items()
        for value in (function_with(cls), function_with(default=instance_of(cls)))
        if not refused(lambda: hold(value))
    ]
    assert passed == []


@each_marker
def test_marker_in_every_kind_of_function(marker: Any) -> None:
    passed = [
        (name, call)
        for name, hold in HOLDERS.items()
        for call in (
            function_with(default=made(marker)),
            function_with(str, made(marker)),
            function_with(Annotated[str, made(marker)]),
            function_with(Annotated[str, made(marker)], "nobody"),
            function_with(Annotated[str, made(marker), Query()]),
            function_with(Annotated[str, Depends(current_user), made(marker)]),
            function_with(list[Annotated[str, made(marker)]] | None, Query()),
            function_with("Annotated['str', made]", names={"made": made(marker)}),
            # The brackets were forgotten.
            function_with(default=marker),
            function_with(Annotated[str, marker]),
        )
        if not refused(lambda: hold(call))
    ]
    assert passed == []


@each_marker
def test_marker_as_an_argument_of_a_partial(marker: Any) -> None:
    async def call(user: str) -> None: ...

    assert refused(lambda: serve(functools.partial(call, user=made(marker))))


@each_marker
def test_marker_in_a_parameter_model_whose_annotations_are_strings(marker: Any) -> None:
    module = types.ModuleType("future_models")
    sys.modules[module.__name__] = module
    vars(module).update(made=made(marker), Annotated=Annotated, BaseModel=BaseModel)
    source = "from __future__ import annotations\nclass Model(BaseModel):\n    user: Annotated[str, made]"
    try:
        exec(source, vars(module))
        assert refused(lambda: serve(function_with(Annotated[module.Model, Query()])))
    finally:
        del sys.modules[module.__name__]


@each_marker
def test_marker_in_a_parameter_model(marker: Any) -> None:
    class Annotation(BaseModel):
        user: Annotated[str, made(marker)]

    assert refused(lambda: serve(function_with(Annotated[Annotation, Query()])))
    if made(marker).__class__.__mro__[-2].__name__ == "Representation":  # a FieldInfo, which pydantic keeps

        class Default(BaseModel):
            user: str = made(marker)

        assert refused(lambda: serve(function_with(Annotated[Default | None, Query()])))


# Dependencies

# The lists in which a foreign dependency or marker may occur.
LISTS: dict[str, Callable[[Any], object]] = {
    "application": lambda depends: FastAPI(dependencies=[depends]),
    "router": lambda depends: APIRouter(dependencies=[depends]),
    "included by an application": lambda depends: FastAPI().include_router(
        APIRouter(), dependencies=[depends]
    ),
    "included by a router": lambda depends: APIRouter().include_router(APIRouter(), dependencies=[depends]),
    "decorator of an application": lambda d: FastAPI().websocket("/", dependencies=[d])(endpoint),
    "decorator of a router": lambda d: APIRouter().websocket("/", dependencies=[d])(endpoint),
    "added to an application": lambda d: FastAPI().add_api_websocket_route("/", endpoint, dependencies=[d]),
    "added to a router": lambda d: APIRouter().add_api_websocket_route("/", endpoint, dependencies=[d]),
    "route": lambda depends: APIWebSocketRoute("/", endpoint, dependencies=[depends]),
}


@pytest.mark.parametrize("hang", LISTS.values(), ids=LISTS)
def test_list_of_dependencies(hang: Callable[[Any], object]) -> None:
    values = [*map(made, MARKERS), *MARKERS, *map(instance_of, CLASSES), *CLASSES]
    assert [value for value in values if not refused(lambda: hang(value))] == []


@pytest.mark.parametrize("hang", LISTS.values(), ids=LISTS)
def test_foreign_callable_in_a_list_of_dependencies(hang: Callable[[Any], object]) -> None:
    values = [*CLASSES, *map(instance_of, CLASSES), *map(functools.partial, CLASSES), *FUNCTIONS]
    assert [value for value in values if not refused(lambda: hang(Depends(value)))] == []


def test_dependencies_that_are_added_to_a_router_later() -> None:
    app, router = FastAPI(), APIRouter()
    router.dependencies.append(fastapi.Depends(current_user))
    assert refused(lambda: router.add_api_websocket_route("/", endpoint))
    inner = APIRouter()
    inner.add_api_websocket_route("/ws", endpoint)
    app.router.dependencies.append(fastapi.Depends(current_user))
    assert refused(lambda: app.include_router(inner))


def methods_of(cls: type) -> Iterator[Any]:
    """The dependencies that a foreign class provides: itself, an instance, a subclass, and their methods."""
    yield from (cls, instance_of(cls), subclass_of(cls), instance_of(subclass_of(cls)))
    yield from map(functools.partial, filter(callable, (cls, instance_of(cls))))
    method = getattr(instance_of(cls), "__call__", None)
    if inspect.ismethod(method):
        yield method


@each_class_everywhere
def test_class_as_a_dependency(cls: type) -> None:
    passed = [
        (call, place)
        for call in methods_of(cls)
        for place, value in {
            "default": function_with(default=Depends(call)),
            "Annotated": function_with(Annotated[Any, Depends(call)]),
            "Security": function_with(default=Security(call)),
            "below": needing(function_with(default=Depends(call))),
        }.items()
        if not refused(lambda: serve(value))
    ]
    assert passed == []


@each_class
def test_class_as_a_dependency_that_the_annotation_names(cls: type) -> None:
    assert refused(lambda: serve(function_with(cls, Depends())))
    assert refused(lambda: serve(function_with(Annotated[cls, Depends()])))


@pytest.mark.parametrize("function", FUNCTIONS, ids=label)
def test_function_as_a_dependency(function: Any) -> None:
    assert refused(lambda: serve(needing(function)))
    assert refused(lambda: serve(needing(functools.partial(function))))
    assert refused(lambda: serve(function))


def test_method_that_a_subclass_of_a_scheme_has_of_its_own() -> None:
    class Bearer(fastapi.security.HTTPBearer):
        async def __call__(self, websocket: WebSocket) -> str:
            return "somebody"

    assert refused(lambda: serve(needing(Bearer())))
    assert refused(lambda: serve(needing(Bearer().__call__)))


def test_endpoint_that_a_foreign_decorator_guards() -> None:
    """`requires` of Starlette asserts that the socket is Starlette's."""

    @starlette.authentication.requires("admin")
    async def endpoint(websocket: WebSocket) -> None: ...

    assert refused(lambda: serve(endpoint))
    assert refused(lambda: FastAPI().websocket_route("/ws")(endpoint))


OVERRIDES = {
    "of a foreign dependency": {fastapi.security.HTTPBearer(): current_user},
    "by a foreign object": {current_user: fastapi.security.HTTPBearer()},
    "by a function with a foreign marker": {current_user: lambda user=fastapi.Depends(current_user): user},
    "by a function with a foreign annotation": {current_user: function_with(fastapi.WebSocket)},
    "by a function with another below": {current_user: needing(function_with(fastapi.WebSocket))},
}


@pytest.mark.parametrize("overrides", OVERRIDES.values(), ids=OVERRIDES)
def test_overrides(overrides: dict[Any, Any]) -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket, user: Annotated[str, Depends(current_user)]):
        await websocket.accept()

    app.dependency_overrides.update(overrides)
    assert refused(lambda: TestClient(app).websocket_connect("/ws").__enter__())


# Everything else that an application is made of


@each_class
def test_class_as_an_endpoint(cls: type) -> None:
    passed = [
        (call, hold)
        for call in methods_of(cls)
        for hold in (serve, FastAPI().websocket_route("/ws"), functools.partial(WebSocketRoute, "/ws"))
        if not refused(lambda: hold(call))
    ]
    assert passed == []


def test_router() -> None:
    for router in (fastapi.APIRouter(), subclass_of(fastapi.APIRouter)(), starlette.routing.Router()):
        assert refused(lambda: FastAPI().include_router(router))
        assert refused(lambda: APIRouter().include_router(router))


@pytest.mark.parametrize("cls", ROUTES, ids=label)
def test_route(cls: type) -> None:
    routes = APIRouter().routes
    for route in (instance_of(cls), instance_of(subclass_of(cls))):
        for act in (
            lambda: FastAPI(routes=[route]),
            lambda: APIRouter(routes=[route]),
            lambda: Router([route]),
            lambda: Mount("/", routes=[route]),
            lambda: routes.append(route),
            lambda: routes.insert(0, route),
            lambda: routes.extend([route]),
            lambda: routes.__iadd__([route]),
            lambda: routes.__setitem__(slice(0, 0), [route]),
            lambda: setattr(Router(), "routes", [route]),
        ):
            assert refused(act)
    routes.append(WebSocketRoute("/ws", endpoint))
    assert refused(lambda: routes.__setitem__(0, instance_of(cls)))
    assert [route.path for route in routes] == ["/ws"]


@each_exception
def test_exception_handler(cls: type[Exception]) -> None:
    for kind in (cls, subclass_of(cls)):
        assert refused(lambda: FastAPI().add_exception_handler(kind, lambda websocket, exc: None))
        assert refused(lambda: FastAPI().exception_handler(kind)(lambda websocket, exc: None))
        assert refused(lambda: FastAPI(exception_handlers={kind: lambda websocket, exc: None}))


@pytest.mark.parametrize(
    "handler", [value for value in FUNCTIONS if "exception_handlers" in value.__module__], ids=label
)
def test_handler_of_fastapi(handler: Any) -> None:
    assert refused(lambda: FastAPI().add_exception_handler(HTTPException, handler))


def test_exception_handler_that_is_put_into_the_dict() -> None:
    app = FastAPI()
    app.add_api_websocket_route("/ws", endpoint)
    app.exception_handlers[fastapi.HTTPException] = lambda websocket, exc: None
    assert refused(lambda: TestClient(app).websocket_connect("/ws").__enter__())


@each_class
def test_middleware_class(cls: type) -> None:
    for kind in (cls, subclass_of(cls), functools.partial(cls)):
        assert refused(lambda: FastAPI().add_middleware(kind))
        assert refused(lambda: Middleware(kind))


class Passing:
    def __init__(self, app: Any) -> None:
        self.app = app


def test_middleware_object() -> None:
    item: Any = starlette.middleware.Middleware(Passing)
    assert refused(lambda: FastAPI(middleware=[item]))
    assert refused(lambda: Mount("/", routes=[], middleware=[item]))
    assert refused(lambda: Router(middleware=[item]))
    assert refused(lambda: WebSocketRoute("/ws", endpoint, middleware=[item]))
    app = FastAPI()
    app.user_middleware.append(item)
    assert refused(app.build_middleware_stack)


class Backend(starlette.authentication.AuthenticationBackend):
    """A foreign backend. If it were accepted and never called, every client would get access."""


def test_backend_of_the_authentication_middleware() -> None:
    assert refused(lambda: Middleware(AuthenticationMiddleware, Backend()))
    assert refused(lambda: FastAPI().add_middleware(AuthenticationMiddleware, backend=Backend()))
    assert refused(lambda: AuthenticationMiddleware(endpoint, Backend()))


def test_foreign_argument_of_a_middleware_of_the_project() -> None:
    """The project's own middleware may pass some paths to an application of FastAPI."""
    Middleware(Passing, other=fastapi.FastAPI())


def test_application() -> None:
    for app in (fastapi.FastAPI(), starlette.applications.Starlette(), subclass_of(fastapi.FastAPI)()):
        assert refused(lambda: get_asgi_application(app))
        assert refused(lambda: APIRouter(dependency_overrides_provider=app))
        assert refused(lambda: APIWebSocketRoute("/ws", endpoint, dependency_overrides_provider=app))


def test_convertor() -> None:
    assert refused(lambda: register_url_convertor("theirs", starlette.convertors.StringConvertor()))


def test_session_of_starlette_s_kind() -> None:
    assert refused(lambda: websocket_session(function_with(fastapi.WebSocket)))


# The error text


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (
            lambda: serve(function_with(default=fastapi.Depends(current_user))),
            "Parameter 'value' of call uses fastapi.params.Depends, which fastws_compat does not recognize: "
            "write 'from fastws_compat import Depends'.",
        ),
        (
            lambda: serve(function_with(subclass_of(starlette.requests.HTTPConnection))),
            "Parameter 'value' of call uses Mine, a subclass of starlette.requests.HTTPConnection, which "
            "fastws_compat does not recognize: write 'from fastws_compat.requests import HTTPConnection'.",
        ),
        (
            lambda: serve(function_with(default=Depends(fastapi.security.HTTPBearer()))),
            "Parameter 'value' of call uses fastapi.security.http.HTTPBearer, which fastws_compat does not "
            "recognize: write 'from fastws_compat.security import HTTPBearer'.",
        ),
        (
            lambda: FastAPI(dependencies=[fastapi.Security(current_user)]),
            "dependencies= of an application or router uses fastapi.params.Security, which fastws_compat "
            "does not recognize: write 'from fastws_compat import Security'.",
        ),
        (
            lambda: FastAPI().include_router(fastapi.APIRouter()),
            "include_router() uses fastapi.routing.APIRouter, which fastws_compat does not recognize: write "
            "'from fastws_compat import APIRouter'.",
        ),
        (
            lambda: Middleware(starlette.middleware.cors.CORSMiddleware),
            "Middleware() uses starlette.middleware.cors.CORSMiddleware, which has no counterpart in "
            "fastws_compat: CORS does not cover WebSockets: name the origins of other sites in "
            'FASTWS["ALLOWED_ORIGINS"], and use django-cors-headers for HTTP.',
        ),
        (
            lambda: FastAPI(routes=[instance_of(fastapi.routing.APIRoute)]),
            "A list of routes uses fastapi.routing.APIRoute, which has no counterpart in fastws_compat: HTTP "
            "stays with Django: write a view and put it into urls.py.",
        ),
    ],
)
def test_sentence(act: Callable[[], object], sentence: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        act()
    assert str(caught.value) == sentence


# What is not foreign


def test_class_of_a_package_with_a_similar_name() -> None:
    Theirs = type("Theirs", (), {"__module__": "fastapi_users.models", "__init__": lambda self: None})
    serve(function_with(Theirs, Depends(Theirs)))


def test_value_of_a_dependency_that_has_no_counterpart_here() -> None:
    def config() -> starlette.config.Config:
        return starlette.config.Config()

    serve(function_with(starlette.config.Config, Depends(config)))
    serve(function_with(Annotated[starlette.config.Config | None, Depends(config)]))
    assert refused(lambda: serve(function_with(starlette.config.Config)))


def test_annotation_that_names_itself_is_read_once() -> None:
    Json = types.new_class("TypeAliasType")
    Json.__value__ = None
    alias = Json()
    alias.__value__ = dict[str, Annotated[Any, alias]]
    serve(function_with(Annotated[Any, alias, Depends(current_user)]))


def served_by(app: Any, path: str) -> Any:
    with TestClient(app).websocket_connect(path) as websocket:
        return websocket.receive_json()


def foreign_application() -> fastapi.FastAPI:
    app = fastapi.FastAPI(dependencies=[fastapi.Depends(current_user)])

    @app.websocket("/ws/{room}", name="room")
    async def ws(websocket: fastapi.WebSocket, room: str, user: str = fastapi.Depends(current_user)):
        await websocket.accept()
        await websocket.send_json([room, user])

    return app


def router_of(app: fastapi.FastAPI) -> Any:
    return app.router


@pytest.mark.parametrize("kind", [lambda app: app, router_of], ids=["application", "router"])
def test_mounted_application_of_fastapi(kind: Callable[[fastapi.FastAPI], Any]) -> None:
    app = FastAPI()
    app.mount("/theirs", kind(foreign_application()), name="theirs")
    app.add_api_websocket_route("/ours", endpoint, name="ours")
    assert served_by(app, "/theirs/ws/lobby?user=anna") == ["lobby", "anna"]
    assert app.url_path_for("theirs:room", room="lobby") == "/theirs/ws/lobby"
    assert app.url_path_for("ours") == "/ours"


def test_names_of_routes_behind_a_mounted_application_of_fastapi() -> None:
    app = FastAPI()
    app.mount("/theirs", foreign_application())
    app.add_api_websocket_route("/ours", endpoint, name="ours")
    assert app.url_path_for("ours") == "/ours"
    assert app.url_path_for("room", room="lobby") == "/theirs/ws/lobby"


def test_application_of_fastapi_for_a_host_and_as_fallback() -> None:
    app = FastAPI()
    app.host("testserver", foreign_application())
    assert served_by(app, "/ws/lobby") == ["lobby", "nobody"]
    assert get_asgi_application(FastAPI(), fallback=foreign_application()) is not None


def test_a_callable_that_claims_to_wrap_itself() -> None:
    call = function_with()
    call.__wrapped__ = call
    assert list(foreign.layers(call)) == [call]
    part = call.__wrapped__ = functools.partial(call)
    assert list(foreign.layers(call)) == [call, part]


def test_a_handler_whose_annotations_cannot_be_read() -> None:
    """They mean nothing there; FastAPI does not read them either."""
    app = FastAPI()
    handler = function_with("1 / 0")
    app.add_exception_handler(KeyError, handler)
    assert app.exception_handlers[KeyError] is handler


class Provide:
    """A marker of dependency-injector, which is not installed here."""

    __module__ = "dependency_injector.wiring"

    def __call__(self) -> "Provide":
        return self


@pytest.mark.parametrize("where", ["parameter", "list"])
def test_marker_of_dependency_injector(where: str) -> None:
    """Its `@inject` knows only FastAPI's `Depends`, so the endpoint would get the marker itself."""

    async def chat(websocket: WebSocket, service: Annotated[Any, Depends(Provide())]) -> None: ...

    with pytest.raises(DeclarationError, match="uses Provide of dependency-injector, which is not resolved"):
        if where == "parameter":
            FastAPI().websocket("/ws")(chat)
        else:
            FastAPI(dependencies=[Depends(Provide())])
