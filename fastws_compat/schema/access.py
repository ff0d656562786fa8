"""Who may use a route, as far as its dependencies say: security schemes, logins and permissions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from fastws_compat.dependencies.model import Step
from fastws_compat.security.base import SecurityBase
from fastws_compat.security.websocket import WebSocketBearer

AUTH = "fastws_compat.auth"
# By the name of a dependency of `fastws_compat.auth`, what it asks for.
REQUIREMENTS = {
    "login_required": "a login",
    "staff_member_required": "a member of staff",
    "superuser_required": "a superuser",
}
NOT_IN_KEYS = re.compile(r"[^A-Za-z0-9_.-]+")
SESSION = "session"

# What the steps of a plan call: functions, classes and objects, schemes among them.
Calls = Iterable[Any]


def requirements(calls: Calls) -> list[str]:
    """What the Django user must be or have, each requirement once."""
    return list(dict.fromkeys(filter(None, map(_requirement, calls))))


def permissions(calls: Calls) -> list[str]:
    """The permissions that the Django user must have."""
    found = [item for call in calls for item in _arguments(call, "permission_required")]
    return list(dict.fromkeys(found))


def _requirement(call: Any) -> str:
    tests = _arguments(call, "user_passes_test")
    needed = [f"`{name}`" for name in _arguments(call, "permission_required")]
    if tests:
        return f"a user who passes `{tests[0]}`"
    if needed:
        return f"the permission{'s' if len(needed) > 1 else ''} {', '.join(needed)}"
    return REQUIREMENTS.get(call.__name__, "") if _is_of_auth(call) else ""


def _arguments(call: Any, function: str) -> list[str]:
    """The arguments of the call `function(...)` that made a dependency; its name contains them."""
    if not _is_of_auth(call):
        return []
    made_by, _, arguments = call.__name__.removesuffix(")").partition("(")
    return arguments.split(", ") if made_by == function else []


def _is_of_auth(call: Any) -> bool:
    return getattr(call, "__module__", None) == AUTH and hasattr(call, "__name__")


class Schemes:
    """The security schemes of all routes, each once."""

    def __init__(self, session_cookie: str) -> None:
        self._session_cookie = session_cookie
        self.objects: dict[str, dict[str, Any]] = {}

    def of(self, steps: Sequence[Step]) -> list[str]:
        """The names of the schemes that dependencies ask for."""
        return list(dict.fromkeys(self._names(steps)))

    def _names(self, steps: Sequence[Step]) -> Iterator[str]:
        if requirements(step.call for step in steps):
            description = "The session of Django."
            scheme = {"type": "httpApiKey", "in": "cookie", "name": self._session_cookie}
            yield self._named(SESSION, {**scheme, "description": description})
        for step in steps:
            call: Any = step.call
            if isinstance(call, SecurityBase):
                found = with_scopes(scheme_object(call), step.scopes)
                stem = ".".join([call.scheme_name, *step.scopes])
                yield self._named(NOT_IN_KEYS.sub("-", stem), found)

    def _named(self, stem: str, scheme: dict[str, Any]) -> str:
        name, number = stem, 1
        while self.objects.setdefault(name, scheme) != scheme:
            number += 1
            name = f"{stem}{number}"
        return name


def scheme_object(scheme: SecurityBase) -> dict[str, Any]:
    """AsyncAPI's Security Scheme Object."""
    found: dict[str, Any] = scheme.model.model_dump(mode="json", by_alias=True, exclude_none=True)
    if isinstance(scheme, WebSocketBearer):
        how = f'A browser sends it as `new WebSocket(url, ["{scheme.subprotocol}", token])`.'
        found["description"] = _sentences(found.get("description"), how)
        found["x-subprotocol"] = scheme.subprotocol
    match found.get("type"):
        case "apiKey":
            return {**found, "type": "httpApiKey"}
        case "oauth2":
            return _oauth2(found)
        case "openIdConnect" if not _is_absolute(found["openIdConnectUrl"]):
            return _bearer(found, f"OpenID Connect: {found['openIdConnectUrl']}")
        case "http" if found.get("scheme") != "bearer":
            return {name: value for name, value in found.items() if name != "bearerFormat"}
    return found


def with_scopes(scheme: dict[str, Any], scopes: Sequence[str]) -> dict[str, Any]:
    """The scheme where a token needs these scopes; as text for types of schemes that have no such field."""
    if not scopes:
        return scheme
    if scheme["type"] in ("oauth2", "openIdConnect"):
        return {**scheme, "scopes": list(scopes)}
    return {**scheme, "description": _sentences(scheme.get("description"), f"Scopes: {', '.join(scopes)}.")}


def _sentences(*texts: str | None) -> str:
    return " ".join(filter(None, texts))


def _oauth2(found: dict[str, Any]) -> dict[str, Any]:
    flows = {name: _flow(flow) for name, flow in found.get("flows", {}).items()}
    urls = [url for flow in flows.values() for name, url in flow.items() if name.endswith("Url")]
    if not all(map(_is_absolute, urls)):
        return _bearer(found, f"A token of OAuth2, from {', '.join(urls)}.")
    return {**found, "flows": flows}


def _flow(flow: dict[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in flow.items() if name != "scopes"}
    return {**found, "availableScopes": flow.get("scopes", {})}


def _bearer(found: dict[str, Any], text: str) -> dict[str, Any]:
    """A bearer token with the URLs as text, for schemes with relative URLs, which AsyncAPI forbids."""
    return {"type": "http", "scheme": "bearer", "description": _sentences(found.get("description"), text)}


def _is_absolute(url: str) -> bool:
    return bool(urlsplit(url).scheme)
