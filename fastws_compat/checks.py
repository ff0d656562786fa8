"""System checks: what would only show when the first client connects, told by `manage.py check`."""

from __future__ import annotations

import difflib
import dis
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from itertools import pairwise
from pathlib import Path
from traceback import extract_tb
from types import FunctionType, ModuleType
from typing import Any

from channels.security.websocket import OriginValidator
from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Warning, register

from fastws_compat import catalogue, conf, daphne
from fastws_compat.convertors import CONVERTOR_TYPES
from fastws_compat.origins import OriginCheck
from fastws_compat.paths import PARAM
from fastws_compat.routing import BaseRoute, Mount, WebSocketRoute, flatten

TAG = "fastws"
DOCS = "docs/reference/checks.md"
GROUPS = "fastws_compat.groups"
IN_MEMORY = "channels.layers.InMemoryChannelLayer"
REDIS_CORE = "channels_redis.core.RedisChannelLayer"
DAY = 86400  # daphne's --websocket_timeout, and the layers' group_expiry

Messages = list[CheckMessage]
Rule = tuple[Callable[[Any], bool], str]


def message(kind: type[Error | Warning | Info], number: str, text: str, hint: str) -> Messages:
    """A message with its number and, in the hint, the place in the documentation that explains it."""
    return [kind(text, hint=f"{hint} See {DOCS}#fastws{number.lower()}.", id=f"fastws.{number}")]


# The project's ASGI application


@register(TAG)
def check_asgi_application(**kwargs: Any) -> Messages:
    """Everything that needs the project's ASGI application, which is imported for it."""
    if not getattr(settings, "ASGI_APPLICATION", None):
        return message(
            Error,
            "E001",
            "The setting ASGI_APPLICATION is missing, so no server command finds the sockets.",
            'Set it to the dotted name of the application, as "mysite.asgi.application".',
        )
    try:
        application = catalogue.project()
    except Exception as exc:
        return message(
            Error,
            "E002",
            f"ASGI_APPLICATION {settings.ASGI_APPLICATION!r} cannot be imported: {type(exc).__name__}: {exc}"
            f"{_place(exc)}",
            "Import it in `manage.py shell` to see the traceback.",
        )
    return [
        *check_mounted(application),
        *check_origin(application),
        *check_shadowed(application),
        *check_groups(),
    ]


def _place(exc: Exception) -> str:
    """Where it was raised, as seen from outside of this library; a SyntaxError says so itself."""
    own = str(Path(__file__).parent)
    frames = [frame for frame in extract_tb(exc.__traceback__) if not frame.filename.startswith((own, "<"))]
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""


def check_mounted(application: Any) -> Messages:
    if catalogue.roots(application):
        return []
    return message(
        Warning,
        "W002",
        f"ASGI_APPLICATION {settings.ASGI_APPLICATION!r} serves no socket of fastws_compat.",
        "In asgi.py, import get_asgi_application from fastws_compat.asgi instead of django.core.asgi.",
    )


def check_origin(application: Any) -> Messages:
    if not catalogue.roots(application) or _checks_origin(application):
        return []
    return message(
        Warning,
        "W005",
        "The origin of handshakes is not checked: any web page can open sockets with its visitors' cookies.",
        "Name the origins in FASTWS['ALLOWED_ORIGINS'] instead of \"*\"; where the sockets are mounted "
        "by hand, put them into fastws_compat.origins.OriginCheck.",
    )


def _checks_origin(application: Any) -> bool:
    for node in catalogue.walk(application):
        if isinstance(node, OriginCheck):
            return not _allows_all(conf.get("ALLOWED_ORIGINS"))
        if isinstance(node, OriginValidator):
            return not _allows_all(node.allowed_origins)
    return False


def _allows_all(origins: Any) -> bool:
    return isinstance(origins, str | list | tuple | set | frozenset) and "*" in origins


# Routes that another one shadows


def check_shadowed(application: Any) -> Messages:
    return [
        found
        for root in catalogue.roots(application)
        for later, earlier in shadowed(root.routes)
        for found in message(
            Warning,
            "W008",
            f"WebSocket route {later!r} is never reached: {earlier!r} comes before it and takes its paths.",
            "Declare the more specific route first.",
        )
    ]


def shadowed(routes: Sequence[BaseRoute], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Each path that can never be reached, and the path before it that takes everything it could match."""
    earlier: list[str] = []
    for route in flatten(routes):
        if not isinstance(route, WebSocketRoute | Mount):
            continue  # a Host takes only some of the connections
        path = prefix + route.path + ("/{path:path}" if isinstance(route, Mount) else "")
        if (cover := next((other for other in earlier if covers(other, path)), None)) is not None:
            yield path, cover
        elif isinstance(route, Mount):
            yield from shadowed(route.routes, prefix + route.path)
        earlier.append(path)


def covers(first: str, second: str) -> bool:
    """Whether the path template `first` matches everything that `second` can match; when in doubt, not."""
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
    """The convertor of a segment that is one parameter and nothing else."""
    match = PARAM.fullmatch(segment)
    return (match[2] or ":str")[1:] if match else None


def _unnamed(match: re.Match[str]) -> str:
    return f"{{{match[2] or ':str'}}}"


# Channel layers


def check_groups() -> Messages:
    """Called once the project's sockets are imported."""
    if _layers().get("default") or not _uses_groups():
        return []
    return message(
        Error,
        "E003",
        "Groups are used, and CHANNEL_LAYERS has no default layer to send through.",
        f'For one process: CHANNEL_LAYERS = {{"default": {{"BACKEND": "{IN_MEMORY}"}}}}; '
        "for several, a layer of channels_redis.",
    )


def _uses_groups() -> bool:
    """Whether a module of an installed app, our own ones aside, has a name from `groups` or joins one."""
    packages = tuple(app.name + "." for app in apps.get_app_configs() if app.name != "fastws_compat")
    modules = [module for name, module in list(sys.modules.items()) if f"{name}.".startswith(packages)]
    values = [value for module in modules for value in list(vars(module).values())]
    return any(_is_of_groups(value) or _joins(value) for value in values)


def _is_of_groups(value: Any) -> bool:
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    return isinstance(name, str) and f"{name}.".startswith(f"{GROUPS}.")


def _joins(value: Any) -> bool:
    """Whether it is a function that calls `join` of a parameter that is annotated as a WebSocket."""
    if not isinstance(value, FunctionType) or "join" not in value.__code__.co_names:
        return False
    sockets = {name for name, kind in value.__annotations__.items() if "WebSocket" in str(kind)}
    steps = pairwise(dis.get_instructions(value))
    return any(first.argval in sockets and then.argval == "join" for first, then in steps)


@register(TAG)
def check_in_memory_layer(**kwargs: Any) -> Messages:
    found = _aliases(lambda layer: layer.get("BACKEND") == IN_MEMORY)
    if settings.DEBUG or not found or sys.argv[1:2] == ["test"]:
        return []  # `manage.py test` turns DEBUG off by itself
    return message(
        Warning,
        "W001",
        f"DEBUG is off, and a channel layer is in-memory ({found}): other processes do not get what is sent.",
        "Use a layer of channels_redis, or silence this check if there is one process for ever.",
    )


@register(TAG)
def check_redis_timeout(**kwargs: Any) -> Messages:
    found = _aliases(lambda layer: layer.get("BACKEND") == REDIS_CORE and not _have_timeouts(layer))
    if not found or _major("redis") < 8:
        return []
    return message(
        Warning,
        "W004",
        "redis-py 8 gives up reading after five seconds, which closes idle sockets of these channel layers: "
        f"{found}.",
        'Write hosts as [{"address": "redis://...", "socket_timeout": None}].',
    )


def _have_timeouts(layer: dict[str, Any]) -> bool:
    return all(map(_has_timeout, layer.get("CONFIG", {}).get("hosts") or [{}]))


def _has_timeout(host: Any) -> bool:
    return "socket_timeout" in host if isinstance(host, dict) else "socket_timeout=" in str(host)


@register(TAG)
def check_group_expiry(**kwargs: Any) -> Messages:
    found = _aliases(_forgets_members)
    if not found:
        return []
    return message(
        Warning,
        "W007",
        f"group_expiry is below the {DAY} s that daphne keeps sockets: members are forgotten ({found}).",
        f"Raise group_expiry to {DAY}, or silence this check if --websocket_timeout is lower still.",
    )


def _forgets_members(layer: dict[str, Any]) -> bool:
    expiry = layer.get("CONFIG", {}).get("group_expiry", DAY)
    return _is_number(expiry) and expiry < DAY


def _layers() -> dict[str, dict[str, Any]]:
    return getattr(settings, "CHANNEL_LAYERS", None) or {}


def _aliases(is_meant: Callable[[dict[str, Any]], bool]) -> str:
    """The names of the channel layers that are meant."""
    return ", ".join(repr(alias) for alias, layer in _layers().items() if is_meant(layer or {}))


# daphne


@register(TAG)
def check_daphne_version(**kwargs: Any) -> Messages:
    found = daphne.version(_version("daphne"))
    if not found:
        return []
    if found < daphne.SINCE:
        return message(
            Error,
            "E004",
            f"daphne {_version('daphne')} is too old: it is completed from {_dotted(daphne.SINCE)} on.",
            "pip install --upgrade daphne.",
        )
    if found >= daphne.BEFORE:
        return message(
            Warning,
            "W003",
            f"daphne {_version('daphne')} is newer than what this version of fastws_compat was tested with.",
            f"Install daphne below {_dotted(daphne.BEFORE)}, or upgrade fastws_compat.",
        )
    return []


@register(TAG)
def check_daphne_mode(**kwargs: Any) -> Messages:
    """Silent where daphne is complete, as it should be, or is not the server."""
    told = {
        "portable": "close codes 1001 to 1014 become 4001 to 4014, and denial responses become 403",
        "stock": "FASTWS['DAPHNE'] asks for it",
    }
    mode = daphne.mode()
    if mode not in told:
        return []
    return message(
        Info,
        "I001",
        f"daphne is not completed but {mode}: {told[mode]}.",
        "A daphne of a tested version is completed by itself.",
    )


@register(TAG)
def check_runserver(**kwargs: Any) -> Messages:
    if apps.is_installed("daphne") or not settings.DEBUG:
        return []
    return message(
        Warning,
        "W009",
        "daphne is not in INSTALLED_APPS: `runserver` is Django's own and serves no sockets.",
        'Put "daphne" first in INSTALLED_APPS, or silence this check if you develop with another server.',
    )


@register(TAG)
def check_daphne_order(**kwargs: Any) -> Messages:
    names = [app.name for app in apps.get_app_configs()]
    static = "django.contrib.staticfiles"
    if "daphne" not in names or static not in names or names.index("daphne") < names.index(static):
        return []
    return message(
        Error,
        "E005",
        "daphne comes after django.contrib.staticfiles: `runserver` is not daphne's and serves no sockets.",
        'Put "daphne" first in INSTALLED_APPS.',
    )


def _version(package: str) -> str:
    try:
        return installed_version(package)
    except PackageNotFoundError:
        return ""


def _major(package: str) -> int:
    return next(iter(daphne.version(_version(package))), 0)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


# Settings


@register(TAG)
def check_same_site(**kwargs: Any) -> Messages:
    if settings.SESSION_COOKIE_SAMESITE not in (None, False, "None", "none"):
        return []
    return message(
        Warning,
        "W006",
        f"SESSION_COOKIE_SAMESITE is {settings.SESSION_COOKIE_SAMESITE!r}: pages of other sites open sockets "
        "with the session cookie of their visitors, and the origin check alone stops them.",
        'Set it to "Lax" or "Strict".',
    )


@register(TAG)
def check_settings(**kwargs: Any) -> Messages:
    values = getattr(settings, "FASTWS", {})
    if not isinstance(values, dict):
        return message(
            Error,
            "E006",
            f"The setting FASTWS is a {type(values).__name__} and is ignored.",
            'Make it a dict, as FASTWS = {"THREADS": 8}.',
        )
    return [found for name, value in values.items() for found in check_setting(name, value)]


def check_setting(name: Any, value: Any) -> Messages:
    if name not in conf.DEFAULTS:
        near = difflib.get_close_matches(str(name).upper(), conf.DEFAULTS, n=1)
        return message(
            Error,
            "E007",
            f"FASTWS has the unknown key {name!r}.",
            f"Did you mean {near[0]!r}?" if near else f"Known keys: {', '.join(sorted(conf.DEFAULTS))}.",
        )
    fits, wanted = RULES.get(name) or _like(conf.DEFAULTS[name])
    if fits(value):
        return []
    return message(Error, "E008", f"FASTWS[{name!r}] is {value!r}.", f"It must be {wanted}.")


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_seconds(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and _is_number(value) and value > 0


def _are_texts(value: Any) -> bool:
    return isinstance(value, list | tuple | set | frozenset) and all(isinstance(item, str) for item in value)


def _or_none(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


def _one_of(*choices: str) -> Rule:
    return (lambda value: value in choices), " or ".join(map(repr, choices))


def _like(default: Any) -> Rule:
    """The rule of a key that has none of its own: the type of its default."""
    return (lambda value: isinstance(value, type(default))), f"a {type(default).__name__}, as {default!r}"


BOOLEAN: Rule = (_is_bool, "True or False")
COUNT: Rule = (_is_count, "a whole number above 0")
COUNT_OR_NONE: Rule = (_or_none(_is_count), "a whole number above 0, or None")
SECONDS: Rule = (_is_seconds, "a number of seconds, 0 or more")
SECONDS_OR_NONE: Rule = (_or_none(_is_seconds), "a number of seconds, 0 or more, or None")
ORIGINS: Rule = (_are_texts, 'a list of origins, as ["https://example.com"]')

# What the value of a key must be.
RULES: dict[str, Rule] = {
    "ALLOWED_ORIGINS": ORIGINS,
    "CLEANUP_TIMEOUT": SECONDS,
    "DAPHNE": _one_of("complete", "stock"),
    "DAPHNE_ROOT_PATH_HEADER": BOOLEAN,
    "DISCONNECT_GRACE": SECONDS_OR_NONE,
    "HANDSHAKE_TIMEOUT": SECONDS,
    "LAYER_TIMEOUT": SECONDS,
    "MAX_CONNECTIONS": COUNT_OR_NONE,
    "MAX_CONNECTIONS_PER_ADDRESS": COUNT_OR_NONE,
    "MAX_CONNECTIONS_PER_USER": COUNT_OR_NONE,
    "MAX_MESSAGE_SIZE": COUNT_OR_NONE,
    "ORIGIN_REQUIRED": BOOLEAN,
    "REVALIDATE_SECONDS": SECONDS,
    "SHUTDOWN_GRACE": SECONDS,
    "SLOW_CONSUMER": _one_of("close", "drop_oldest"),
    "SLOW_CONSUMER_QUEUE": COUNT,
    "THREADS": COUNT,
}
