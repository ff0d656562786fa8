"""Checks of the project's ASGI application: its import, routes, origin check, lifespans and groups."""

from __future__ import annotations

import dis
import importlib
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from traceback import extract_tb
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from channels.security.websocket import OriginValidator
from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import Error, Warning
from django.core.handlers.wsgi import WSGIHandler
from django.utils import module_loading

from fastws_compat import conf
from fastws_compat.applications import FastAPI, default_app
from fastws_compat.checks.layers import IN_MEMORY, declared
from fastws_compat.checks.leftovers import check_leftovers
from fastws_compat.checks.messages import Messages, ServingError, message
from fastws_compat.convertors import CONVERTOR_TYPES
from fastws_compat.dependencies.annotations import UNEVALUATED
from fastws_compat.logger import in_words
from fastws_compat.origins import OriginCheck, allows_every
from fastws_compat.routing import BaseRoute, Mount, Router, WebSocketRoute, flatten
from fastws_compat.routing.paths import PARAM
from fastws_compat.schema import catalogue

if TYPE_CHECKING:
    from fastws_compat.messages.contract import Contract

DECLARES = re.compile(r"^@(\w+\.)?websocket(_route)?\(", re.MULTILINE)
GROUPS = "fastws_compat.groups"


def check() -> Messages:
    """Every problem of the application; only the import error if it cannot be imported."""
    if not getattr(settings, "ASGI_APPLICATION", None):
        return message(
            Error,
            "E001",
            "The setting ASGI_APPLICATION is missing, so the commands cannot find the sockets.",
            'Set it to the dotted name of the application, for example "mysite.asgi.application".',
        )
    try:
        application = catalogue.project()
    except Exception as exc:
        return message(
            ServingError,
            "E002",
            f"ASGI_APPLICATION {settings.ASGI_APPLICATION!r} cannot be imported: {in_words(exc)}"
            f"{_place(exc)}",
            "Import it in `manage.py shell` to see the traceback.",
        )
    return [
        *check_mounted(application),
        *check_origin(application),
        *check_shadowed(application),
        *check_paths(application),
        *check_overlaps(application),
        *check_lifespans(application),
        *check_unserved(application),
        *check_unimported(),
        *check_groups(),
        *check_leftovers(application),
        *check_wrappers(application),
    ]


# This library, and what imports a module by its name.
IMPORTERS = (str(Path(__file__).parents[1]), importlib.__file__, module_loading.__file__, "<")


def _place(exc: Exception) -> str:
    """The last line of the traceback that is not about importing; a SyntaxError contains its own."""
    frames = [frame for frame in extract_tb(exc.__traceback__) if not frame.filename.startswith(IMPORTERS)]
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""


NO_ROUTE_FOUND = (
    "no installed app declares one in its sockets.py",
    "Declare routes with @websocket in the sockets.py of an app, or pass your own application to "
    'get_asgi_application("module:attribute").',
)
NO_ROUTE_DECLARED = (
    "its application declares none",
    'Declare routes with @app.websocket("/path"), and import the modules that declare them.',
)


def check_mounted(application: Any) -> Messages:
    roots = catalogue.roots(application)
    if any(root.routes for root in roots):
        return []
    if roots:
        where, advice = NO_ROUTE_FOUND if default_app in roots else NO_ROUTE_DECLARED
        text = f"ASGI_APPLICATION {settings.ASGI_APPLICATION!r} has no WebSocket route: {where}."
        return message(Warning, "W002", text, advice)
    return message(
        Warning,
        "W002",
        f"ASGI_APPLICATION {settings.ASGI_APPLICATION!r} serves no WebSocket route of fastws_compat.",
        _advice(application),
    )


def _advice(application: Any) -> str:
    if isinstance(application, WSGIHandler):
        return NAME_ASGI
    if _has_router(application):
        return ROUTE_IN_CHANNELS
    return REPLACE_FUNCTION if isinstance(application, FunctionType) else CHANGE_IMPORT


CHANGE_IMPORT = "In asgi.py, import get_asgi_application from fastws_compat.asgi instead of django.core.asgi."
ROUTE_IN_CHANNELS = (
    "In asgi.py, replace the ProtocolTypeRouter with get_asgi_application(fallback=...) of "
    "fastws_compat.asgi, and pass it the router of your consumers; docs/channels.md shows how."
)
NAME_ASGI = 'Name the application of asgi.py instead of that of wsgi.py, as in "mysite.asgi.application".'
REPLACE_FUNCTION = (
    "In asgi.py, replace your own function with get_asgi_application() of fastws_compat.asgi, and pass "
    "it the application of your other sockets, if any, as fallback=."
)


def _has_router(application: Any) -> bool:
    """Whether Channels' `ProtocolTypeRouter` chooses the application for sockets."""
    return any(
        "websocket" in getattr(node, "application_mapping", ()) for node in catalogue.walk(application)
    )


def check_origin(application: Any) -> Messages:
    if not catalogue.roots(application) or _checks_origin(application):
        return []
    return message(
        Warning,
        "W005",
        "The origin of handshakes is not checked, so any page can open sockets with its visitors' cookies.",
        "List the origins in FASTWS['ALLOWED_ORIGINS'] instead of \"*\"; if you mount the sockets yourself, "
        "wrap them in fastws_compat.origins.OriginCheck.",
    )


# ASGI middleware that replaces `send` with a function of its own.
WRAPPERS = frozenset({"SentryAsgiMiddleware", "OpenTelemetryMiddleware"})


def check_wrappers(application: Any) -> Messages:
    found = {type(node).__name__ for node in catalogue.walk(application)} & WRAPPERS
    return [each for name in sorted(found) for each in _wrapper_message(name)]


def _wrapper_message(name: str) -> Messages:
    return message(
        Warning,
        "W010",
        f"{name} wraps the sockets: group messages lose their shared frames, and clients that have left are "
        "noticed later.",
        "Wrap Django alone with it; fastws_compat.contrib.sentry reports the errors of sockets.",
    )


def _checks_origin(application: Any) -> bool:
    for node in catalogue.walk(application):
        if isinstance(node, OriginCheck):
            return not allows_every(conf.get("ALLOWED_ORIGINS"))
        if isinstance(node, OriginValidator):
            return "*" not in (node.allowed_origins or ())
    return False


# Messages


def check_overlaps(application: Any) -> Messages:
    return [
        found
        for place in catalogue.places(application)
        if (contract := getattr(place.route, "contract", None)) is not None
        for verb, first, second in _overlaps(contract)
        for found in message(
            Warning,
            "W017",
            f"The WebSocket route {place.host_prefix + place.route.path!r} {verb} {first} and {second} "
            "without a tag, but a message can be both.",
            'Give each a field that tells them apart, such as `type: Literal["post"] = "post"`.',
        )
    ]


def _overlaps(contract: Contract) -> Iterator[tuple[str, str, str]]:
    # Imported here: projects without typed messages do not load what makes examples.
    from fastws_compat.schema.overlaps import overlaps

    return overlaps(contract)


# Paths

# A parameter as Django writes it, also in a regular expression: <name>, <int:name>, (?P<name>...).
DJANGO_PARAM = re.compile(r"<(?:\w+:)?(\w+)>")


def check_paths(application: Any) -> Messages:
    return [
        found
        for place in catalogue.places(application)
        if (param := DJANGO_PARAM.search(place.route.path)) is not None
        for found in message(
            Warning,
            "W022",
            f"The WebSocket route {place.host_prefix + place.route.path!r} has no parameter {param[1]!r}: "
            f"{param[0]!r} is ordinary text here.",
            f"Write '{{{param[1]}}}', and declare its type in the function, as in '{param[1]}: int'.",
        )
    ]


# Shadowed routes


def check_shadowed(application: Any) -> Messages:
    return [
        found
        for root in catalogue.roots(application)
        for later, earlier in shadowed(root.routes)
        for found in message(
            Warning,
            "W008",
            f"The WebSocket route {later!r} is never reached, because {earlier!r} precedes it and matches "
            "all its paths.",
            "Declare the more specific route first.",
        )
    ]


def shadowed(routes: Sequence[BaseRoute], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Pairs of a path that can never be reached and the earlier path that matches all it could match."""
    earlier: list[str] = []
    for route in flatten(routes):
        if not isinstance(route, WebSocketRoute | Mount):
            continue  # a Host matches only some of the connections
        path = prefix + route.path + ("/{path:path}" if isinstance(route, Mount) else "")
        if (cover := next((other for other in earlier if covers(other, path)), None)) is not None:
            yield path, cover
        elif isinstance(route, Mount):
            yield from shadowed(route.routes, prefix + route.path)
        earlier.append(path)


def covers(first: str, second: str) -> bool:
    """Whether the path template `first` matches everything that `second` can match; False if unknown."""
    wide, narrow = first.split("/"), second.split("/")
    if _kind(wide[-1]) == "path":
        head = wide[:-1]
        return len(narrow) > len(head) and all(map(_covers_segment, head, narrow))
    return len(wide) == len(narrow) and all(map(_covers_segment, wide, narrow))


def _covers_segment(wide: str, narrow: str) -> bool:
    wide_kind, narrow_kind = _kind(wide), _kind(narrow)
    if wide_kind is None:
        return PARAM.sub(_unnamed, wide) == PARAM.sub(_unnamed, narrow)
    if narrow_kind is None and not PARAM.search(narrow):
        return re.fullmatch(CONVERTOR_TYPES[wide_kind].regex, narrow) is not None
    if wide_kind == "str":
        kinds = [(match[2] or ":str")[1:] for match in PARAM.finditer(narrow)]
        return "path" not in kinds and all(kind in ("str", "int", "float", "uuid") for kind in kinds)
    return wide_kind == narrow_kind


def _kind(segment: str) -> str | None:
    """The convertor of a segment that consists of one parameter."""
    match = PARAM.fullmatch(segment)
    return (match[2] or ":str")[1:] if match else None


def _unnamed(match: re.Match[str]) -> str:
    return f"{{{match[2] or ':str'}}}"


# Lifespans that never run


def check_lifespans(application: Any) -> Messages:
    return [
        found
        for router in catalogue.without_lifespan(application)
        for found in message(
            Warning,
            "W020",
            f"The lifespan of the application or router with {_first_path(router)} never runs, because a "
            "URLRouter serves its routes and does not forward the lifespan.",
            "Serve the application with get_asgi_application(app, fallback=...), or add it to the "
            "ProtocolTypeRouter under the key 'lifespan'.",
        )
    ]


def _first_path(router: Router) -> str:
    """Text that identifies a router: its first path."""
    routes = [route for route in flatten(router.routes) if isinstance(route, WebSocketRoute | Mount)]
    return f"the route {routes[0].path!r}" if routes else "no route"


# Sockets that are not served


def check_unserved(application: Any) -> Messages:
    """Applications in imported modules of installed apps."""
    served = catalogue.served(application)
    return [
        found
        for name, app in sorted(_applications())
        if app.routes and app not in served
        for found in message(
            Warning,
            "W013",
            f"{name} has WebSocket routes that ASGI_APPLICATION does not serve.",
            f'In asgi.py, pass it to get_asgi_application("{name}"), or mount it in the application that is '
            "served.",
        )
    ]


def _applications() -> Iterator[tuple[str, FastAPI]]:
    """The names and applications in the modules of installed apps, each application once."""
    found: dict[int, tuple[str, FastAPI]] = {}
    for module in _modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, FastAPI) and value is not default_app:
                found.setdefault(id(value), (f"{module.__name__}:{name}", value))
    yield from found.values()


FIND_SOCKETS = "Call get_asgi_application() of fastws_compat.asgi in asgi.py, which imports it."
MOVE_SOCKETS = "Move the routes to the sockets.py of the app, or import the module there."


def check_unimported() -> Messages:
    """Modules whose source declares routes although they are not imported."""
    return [
        found
        for path in sorted(_unimported())
        if DECLARES.search(source := path.read_text(errors="replace")) and "fastws_compat" in source
        for found in message(
            Warning,
            "W014",
            f"{path} declares WebSocket routes that are not served, because nothing imports it.",
            FIND_SOCKETS if path.name == "sockets.py" else MOVE_SOCKETS,
        )
    ]


def _unimported() -> Iterator[Path]:
    for app in _project_apps():
        for path in Path(app.path).glob("*.py"):
            if f"{app.name}.{path.stem}" not in sys.modules:
                yield path


def _project_apps() -> list[AppConfig]:
    """The installed apps without those of this library."""
    return [app for app in apps.get_app_configs() if app.name.partition(".")[0] != "fastws_compat"]


# Groups without a layer


def check_groups() -> Messages:
    """The channel layers that groups name or need. The project's sockets must already be imported."""
    unknown = sorted({(group.layer, group.name) for group in _groups() if group.layer not in declared()})
    if places := [f"{layer!r} (of group {name!r})" for layer, name in unknown if layer != "default"]:
        return message(
            Error,
            "E010",
            f"Groups name channel layers that are missing from CHANNEL_LAYERS: {', '.join(places)}.",
            "Correct the name or add the layer.",
        )
    if declared().get("default") or not _uses_groups():
        return []
    return _without_default_layer()


def _without_default_layer() -> Messages:
    """A group raises if there are only layers with other names; without any, it works within its process."""
    hint = (
        f'For a single process, set CHANNEL_LAYERS = {{"default": {{"BACKEND": "{IN_MEMORY}"}}}}; '
        "for several processes, use a layer of channels_redis."
    )
    if declared():
        text = "The project uses groups, but CHANNEL_LAYERS has no default layer."
        return message(Error, "E003", text, hint)
    text = "The project uses groups without CHANNEL_LAYERS: what one process sends does not reach another."
    return message(Warning, "W024", text, hint)


def _groups() -> Iterator[Any]:
    """The groups that are global names in the project's modules."""
    values = [value for module in _modules() for value in list(vars(module).values())]
    yield from (value for value in values if _is_of_groups(type(value)) and hasattr(value, "layer"))


def _uses_groups() -> bool:
    """Whether a module of the project has a name from `groups` or a function that joins a group."""
    values = [value for module in _modules() for value in list(vars(module).values())]
    return any(_is_of_groups(value) or _joins(value) for value in values)


def _modules() -> list[ModuleType]:
    """The imported modules of installed apps, except those of this library, and those beside `asgi.py`."""
    packages = tuple(app.name + "." for app in _project_apps())
    folder = settings.ASGI_APPLICATION.rpartition(".")[0].rpartition(".")[0]
    return [
        module
        for name, module in list(sys.modules.items())
        if module is not None
        and (f"{name}.".startswith(packages) or (folder and name.rpartition(".")[0] == folder))
    ]


def _is_of_groups(value: Any) -> bool:
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    return isinstance(name, str) and f"{name}.".startswith(f"{GROUPS}.")


def _joins(value: Any) -> bool:
    """Whether the value is a function that calls `join` on a parameter annotated as a WebSocket."""
    if not isinstance(value, FunctionType) or "join" not in value.__code__.co_names:
        return False
    parameters = inspect.signature(value, follow_wrapped=False, **UNEVALUATED).parameters
    sockets = {name for name, parameter in parameters.items() if "WebSocket" in str(parameter.annotation)}
    steps = pairwise(dis.get_instructions(value))
    return any(first.argval in sockets and then.argval == "join" for first, then in steps)
