"""The catalogue of a project: the applications inside its ASGI application, and their routes."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any

from fastws_compat.applications import Starlette
from fastws_compat.consumers import ROUTER_ATTRIBUTE
from fastws_compat.dependencies.annotations import name_of
from fastws_compat.routing.routers import Host, Mount, Router
from fastws_compat.routing.routes import APIWebSocketRoute, BaseRoute, WebSocketRoute, flatten
from fastws_compat.schema.dispatch import targets

# The attributes in which Channels, Django and Starlette hold the application that they wrap.
WRAPPED = ("application", "inner", "app")
# The packages whose objects hold it there or nowhere.
FRAMEWORKS = frozenset(
    {"builtins", "channels", "django", "fastapi", "fastws_compat", "functools", "starlette"}
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One route, described for an operator."""

    path: str
    name: str
    endpoint: str
    dependencies: tuple[str, ...]
    limits: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a route is served: what the mounts and hosts above it add."""

    # A WebSocketRoute, or the mount of an application whose routes cannot be seen.
    route: Any = None
    prefix: str = ""
    host: str | None = None
    # The names of the mounts, each followed by a colon.
    names: str = ""
    # The innermost application.
    owner: Starlette | None = None

    @property
    def host_prefix(self) -> str:
        return self.prefix if self.host is None else f"//{self.host}{self.prefix}"


def project() -> Any:
    """The project's ASGI application; ImportError if `ASGI_APPLICATION` is missing or wrong.

    Django's `import_string` would report an AttributeError inside the module as a missing attribute.
    """
    from django.conf import settings

    name = getattr(settings, "ASGI_APPLICATION", None)
    if not name:
        raise ImportError("The setting ASGI_APPLICATION is missing.")
    module, _, attribute = name.rpartition(".")
    if not module or ":" in name:
        raise ImportError('it is not a dotted name such as "mysite.asgi.application"')
    found = importlib.import_module(module)
    if not hasattr(found, attribute):
        raise ImportError(f"module {module!r} has no {attribute!r}")
    return getattr(found, attribute)


def walk(application: Any, inside: Callable[[Any], Iterator[Any]] | None = None) -> Iterator[Any]:
    """An ASGI application and every application that it passes sockets to, down to FastAPI instances."""
    inside = inside or _inside
    todo, seen = [application], set[int]()
    while todo:
        node = todo.pop()
        if id(node) not in seen:
            seen.add(id(node))
            yield node
            todo += reversed(list(inside(node)))


def roots(application: Any) -> list[Router | Starlette]:
    """The FastAPI instances inside an ASGI application, and the single routes of a `URLRouter`."""
    found: list[Router | Starlette] = []
    for node in walk(application):
        if isinstance(node, Starlette):
            found.append(node)
        elif isinstance(node, APIWebSocketRoute) and not isinstance(node.owner, Starlette):
            found.append(Router([node]))
    return found


def without_lifespan(application: Any) -> list[Router]:
    """The routers whose lifespan no server runs, because only their routes are mounted."""
    run = {
        id(node.router if isinstance(node, Starlette) else node)
        for node in walk(application, _lifespan_targets)
    }
    routers = {id(router): router for router in _routers(application)}
    return [router for key, router in routers.items() if key not in run and _has_events(router)]


def _routers(application: Any) -> Iterator[Router]:
    """The routers whose routes an ASGI application serves."""
    for node in walk(application):
        if isinstance(node, Starlette | Router):
            yield node.router if isinstance(node, Starlette) else node
        for pattern in _patterns(node):
            if (router := getattr(pattern, ROUTER_ATTRIBUTE, None)) is not None:
                yield router


def _has_events(router: Router) -> bool:
    events = [*getattr(router, "on_startup", []), *getattr(router, "on_shutdown", [])]
    return router.has_lifespan or bool(events)


def _lifespan_targets(node: Any) -> Iterator[Any]:
    """The applications that an ASGI application passes the lifespan to; a `URLRouter` does not pass it on."""
    mapping = getattr(node, "application_mapping", None)
    if isinstance(mapping, dict):
        if "lifespan" in mapping:
            yield mapping["lifespan"]
    elif isinstance(node, FunctionType):
        yield from _inside_function(node, "lifespan")
    elif not isinstance(node, Router) and not _patterns(node):
        yield from _inside(node)


def served(application: Any) -> set[Starlette]:
    """The applications inside an ASGI application, including mounted ones."""
    found = {root for root in roots(application) if isinstance(root, Starlette)}
    mounts = [route for root in roots(application) for route in flatten(root.routes)]
    for mount in mounts:
        if isinstance(mount, Mount | Host):
            found |= served(mount.app)
    return found


def print_routes(application: Any) -> None:
    """Print one line per route, when a development server starts."""
    for entry in entries(application):
        print(f"WebSocket {entry.path} -> {entry.endpoint}", flush=True)


def entries(application: Any) -> list[Entry]:
    """Every route in an ASGI application, in the order in which they are tried."""
    return list(map(_entry, places(application)))


def _inside_function(function: FunctionType, kind: str = "websocket") -> Iterator[Any]:
    """The route of a consumer's `as_asgi()`; what any other function calls, or closes over as a decorator."""
    route = getattr(getattr(function, "consumer_class", None), "route", None)
    return iter([route] if route is not None else targets(function, kind))


def _inside(node: Any) -> Iterator[Any]:
    """The applications that an ASGI application passes sockets to, as far as attributes show them."""
    if isinstance(node, Starlette):
        return
    if isinstance(node, APIWebSocketRoute):
        yield node.owner
        return
    if isinstance(node, FunctionType):
        yield from _inside_function(node)
        return
    mapping = getattr(node, "application_mapping", None)
    if isinstance(mapping, dict) and "websocket" in mapping:
        yield mapping["websocket"]
    wrapped = [value for name in WRAPPED if (value := getattr(node, name, None)) is not None]
    # Middleware of the project may use another name.
    yield from wrapped or (vars(node).values() if _is_of_project(node) else ())
    yield from (pattern.callback for pattern in _patterns(node))


def _is_of_project(node: Any) -> bool:
    """Whether a node is a callable object whose class is none of a framework's."""
    package = type(node).__module__.partition(".")[0]
    return callable(node) and hasattr(node, "__dict__") and package not in FRAMEWORKS


def _patterns(node: Any) -> list[Any]:
    """The entries of Channels' `URLRouter`; empty for any other object."""
    routes = getattr(node, "routes", None)
    if not isinstance(routes, list | tuple):
        return []
    return [route for route in routes if hasattr(route, "callback")]


def places(application: Any) -> Iterator[Place]:
    """Every route in an ASGI application with what stands above it, in the order of matching."""
    for root in roots(application):
        owner = root if isinstance(root, Starlette) else None
        yield from _places(root.routes, Place(owner=owner))


def _places(routes: Iterable[BaseRoute], above: Place) -> Iterator[Place]:
    for route in flatten(routes):
        if isinstance(route, WebSocketRoute):
            yield replace(above, route=route)
        elif isinstance(route, Mount | Host):
            inner = getattr(route, "base_app", route.app)
            below = replace(
                above,
                route=route,
                host=route.host if isinstance(route, Host) else above.host,
                prefix=above.prefix if isinstance(route, Host) else above.prefix + route.path,
                names=f"{above.names}{route.name}:" if route.name else above.names,
                owner=inner if isinstance(inner, Starlette) else above.owner,
            )
            yield from _places(route.routes, below) if route.routes else (below,)


def _entry(place: Place) -> Entry:
    route = place.route
    if not isinstance(route, WebSocketRoute):  # a mounted application whose routes cannot be seen
        return Entry(f"{place.host_prefix}/*", place.names.removesuffix(":"), label(route.app), (), {})
    dependencies, limits = list[str](), dict[str, Any]()
    if isinstance(route, APIWebSocketRoute):
        dependencies = [name_of(step.call) for step in route.plan.steps]
        limits.update(route.limits.options)
    return Entry(
        path=place.host_prefix + route.path,
        name=place.names + route.name,
        endpoint=label(route.endpoint),
        dependencies=tuple(dict.fromkeys(dependencies)),
        limits=limits,
    )


def label(endpoint: Any) -> str:
    """`module:name` of a function, of a class, or of the class of an object."""
    named = endpoint if hasattr(endpoint, "__qualname__") else type(endpoint)
    return f"{named.__module__}:{named.__qualname__}"
