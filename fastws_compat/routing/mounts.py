"""HTTP below a mount: the mounted application serves it if the project lists the mount, else Django does."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from fastws_compat.applications import Starlette
from fastws_compat.datastructures import URL
from fastws_compat.exceptions import DeclarationError
from fastws_compat.logger import logger
from fastws_compat.middleware.base import BaseHTTPMiddleware
from fastws_compat.responses import RedirectResponse
from fastws_compat.routing.routers import Mount, Router
from fastws_compat.routing.routes import flatten
from fastws_compat.types import ASGIApp, Message, Receive, Scope, Send


def with_mounts(django: ASGIApp, sockets: Starlette, paths: Sequence[str]) -> ASGIApp:
    """The application for HTTP: Django alone if `sockets` has no mounts."""
    has_mounts = any(isinstance(route, Mount) for route in flatten(sockets.routes))
    return HTTPMounts(django, sockets, paths) if paths or has_mounts else django


class HTTPMounts:
    """Passes HTTP to Django, except below the mounts whose paths are listed."""

    def __init__(self, django: ASGIApp, sockets: Starlette, paths: Sequence[str]) -> None:
        self.application = django
        self._sockets = sockets
        self._paths = _checked([paths] if isinstance(paths, str) else paths, sockets)
        # The mounts that were already logged.
        self._logged: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        mount = self._mount(scope)
        if mount is not None and mount.path in self._paths:
            await self._sockets(scope, receive, send)
        elif mount is not None and mount.path not in self._logged and _is_foreign(self._sockets, scope):
            await self.application(scope, receive, self._logging_404(mount, send))
        elif self._paths and (url := self._with_slash(scope)) is not None:
            await RedirectResponse(url)(scope, receive, send)
        else:
            await self.application(scope, receive, send)

    def _mount(self, scope: Scope) -> Mount | None:
        found = self._sockets.match(scope)
        return found[0] if found is not None and isinstance(found[0], Mount) else None

    def _with_slash(self, scope: Scope) -> URL | None:
        """The URL with a final slash, if only the slash is missing for a mount to match (Starlette)."""
        if scope["path"].endswith("/") or not self._sockets.router.redirect_slashes:
            return None
        longer = {**scope, "path": scope["path"] + "/"}
        mount = self._mount(longer)
        return URL(scope=longer) if mount is not None and mount.path in self._paths else None

    def _logging_404(self, mount: Mount, send: Send) -> Send:
        """Wrap `send` to log once why a page below the mount was not found."""

        async def log_404(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 404:
                self._logged.add(mount.path)
                logger.warning(
                    "HTTP below the mount %r goes to Django, which has no such page; "
                    "get_asgi_application(..., http=[%r]) gives it to the mounted application",
                    mount.path,
                    mount.path,
                )
            await send(message)

        return log_404


def _checked(paths: Sequence[str], sockets: Starlette) -> frozenset[str]:
    mounts = [route.path for route in flatten(sockets.routes) if isinstance(route, Mount)]
    for path in paths:
        if path.rstrip("/") not in mounts:
            raise DeclarationError(
                f"get_asgi_application() got http=[{path!r}], but no mount of the application has this path: "
                f"{_listed(mounts)}. Mount the application first."
            )
    for middleware in sockets.user_middleware if paths else []:
        cls = middleware.cls
        if inspect.isclass(cls) and issubclass(cls, BaseHTTPMiddleware):
            raise DeclarationError(
                f"get_asgi_application() got http=, but dispatch() of the BaseHTTPMiddleware {cls.__name__} "
                "does not run here: add it to the mounted application, or write it as an ASGI middleware."
            )
    return frozenset(path.rstrip("/") for path in paths)


def _listed(mounts: Sequence[str]) -> str:
    return f"it has {', '.join(map(repr, mounts))}" if mounts else "it has none"


def _is_foreign(app: Starlette | Router, scope: Scope) -> bool:
    """Whether a mount leads to an application from elsewhere, which may serve HTTP."""
    found = app.match(scope)
    if found is None or not isinstance(found[0], Mount):
        return False
    inner = found[0].base_app
    return not isinstance(inner, Starlette | Router) or _is_foreign(inner, {**scope, **found[1]})
