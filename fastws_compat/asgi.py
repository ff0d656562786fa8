"""The project's ASGI application: Django serves HTTP, and this library serves the sockets."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from fastws_compat import conf, health, installed
from fastws_compat.collector import frozen_survivors
from fastws_compat.connections.admission import Turn, admit
from fastws_compat.connections.outcomes import reason_of
from fastws_compat.connections.refusal import refuse
from fastws_compat.connections.registry import registry
from fastws_compat.connections.states import RAISE_EXCEPTIONS, TURN
from fastws_compat.connections.tracebacks import as_text, bare
from fastws_compat.exceptions import DeclarationError, HTTPException
from fastws_compat.limits import log_full, process_is_full
from fastws_compat.logger import logger
from fastws_compat.porting import foreign
from fastws_compat.requests import with_root_path
from fastws_compat.routing.unmatched import run_router
from fastws_compat.types import ASGIApp, Receive, Scope, Send


def get_asgi_application(
    app: Any = None, *, fallback: ASGIApp | None = None, http: Sequence[str] = ()
) -> ASGIApp:
    """Set Django up and serve it together with the sockets of `app`.

    `app` is an application, its name `"module:attribute"`, or None for the default app with the routes of
    every installed app's `sockets.py`. Paths that it does not serve go to `fallback`, the project's existing
    consumers. For both, origins are checked and the session's user is looked up.
    `http` lists the paths of those mounts of `app` that serve HTTP as well as sockets.
    Raises DeclarationError if the name is not that of an application, and for a path without a mount.
    """
    from django.core.asgi import get_asgi_application as get_django_application

    django: Any = get_django_application()  # django.setup(): before anything imports a model

    from fastws_compat import daphne, logs
    from fastws_compat.apps import print_routes
    from fastws_compat.checks.settings import log_errors
    from fastws_compat.daphne import hooks
    from fastws_compat.logins import receivers
    from fastws_compat.origins import OriginCheck
    from fastws_compat.routing.mounts import with_mounts

    daphne.install()
    hooks.before_serving(print_routes)
    installed.warn_if_absent()
    logs.install()
    log_errors()
    receivers.connect()  # also for a project that is not listed in INSTALLED_APPS
    sockets = load(app)
    pages = with_mounts(django, sockets, http)
    if (path := conf.get("HEALTH")) is not None:
        pages = health.Probes(pages, path)
    if fallback is None:
        return Unbegun(pages, OriginCheck(Identify(sockets, sockets)), sockets)
    chosen = Identify(_with_fallback(sockets, fallback), sockets)
    return Unbegun(pages, OriginCheck(chosen, exempt=lambda scope: not sockets.serves(scope)), sockets)


class ProtocolRouter:
    """Passes each kind of connection to the application that serves it."""

    def __init__(self, http: ASGIApp, websocket: ASGIApp, lifespan: ASGIApp) -> None:
        self.application_mapping = {"http": http, "websocket": websocket, "lifespan": lifespan}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        __tracebackhide__ = True  # Sentry would send the scope of a frame that the server logs
        if scope["type"] == "websocket":
            # Early, so that no user is looked up. What begins after the look-up, a session or the fallback,
            # asks again: the process may have been drained meanwhile.
            if health.is_closed:
                await refuse(scope, send, 503, reason="stopping")
                return
            scope = prefixed(scope)
            if TURN not in scope and RAISE_EXCEPTIONS not in scope:
                await self._in_turn(scope, receive, send)
                return
        elif scope["type"] == "lifespan":
            load_urls()
            with frozen_on_uvicorn(send):
                await health.lifespan(self.application_mapping["lifespan"], scope, receive, send)
            return
        await self.application_mapping[scope["type"]](scope, receive, send)

    async def _in_turn(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a socket when its turn comes, where the server does not keep its handshake waiting."""
        __tracebackhide__ = True
        scope = {**scope}
        if await admit(scope, send):
            try:
                await self.application_mapping["websocket"](scope, receive, send)
            finally:
                scope[TURN].end()


class Unbegun(ProtocolRouter):
    """A router before its first call, which registers the event loop as one that serves."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        __tracebackhide__ = True
        self.__class__ = ProtocolRouter  # type: ignore[assignment]
        registry()
        await self(scope, receive, send)


def frozen_on_uvicorn(send: Send) -> AbstractContextManager[object]:
    """Keep what survives a full garbage collection out of the next ones, as completed daphne does itself."""
    is_uvicorn = type(getattr(send, "__self__", None)).__module__.startswith("uvicorn.")
    if is_uvicorn and conf.get("GC_FREEZE"):
        return frozen_survivors(asyncio.get_running_loop())
    return nullcontext()


def load_urls() -> None:
    """Import the URLconf before the first connection, so that a metrics view in it counts from the start."""
    from django.conf import settings

    if importlib.util.find_spec("prometheus_client") is not None and hasattr(settings, "ROOT_URLCONF"):
        try:
            importlib.import_module(settings.ROOT_URLCONF)
        except Exception as exc:
            logger.debug("The URLconf cannot be imported yet: %r", exc)  # Django reports it with each page


def prefixed(scope: Scope) -> Scope:
    """The scope below Django's script prefix, which is set for `reverse()` too, as in Django's handler."""
    from django.core.handlers.asgi import get_script_prefix
    from django.urls import set_script_prefix

    prefix = get_script_prefix(scope)
    set_script_prefix(prefix)
    root_path = prefix.rstrip("/")
    return with_root_path(root_path, scope) if root_path else scope


def load(app: Any) -> Any:
    """The FastAPI instance that `app` is or names."""
    from fastws_compat.applications import Starlette, default_app

    if app is None:
        from django.utils.module_loading import autodiscover_modules

        autodiscover_modules("sockets")
        return default_app
    if isinstance(app, str):
        return _by_name(app)
    foreign.refuse(app, "get_asgi_application()")
    if not isinstance(app, Starlette):
        raise DeclarationError(
            f"get_asgi_application() got a {type(app).__name__}: pass a FastAPI or Starlette instance of "
            'fastws_compat, or its name as "module:attribute".'
        )
    return app


def _by_name(name: str) -> Any:
    module, separator, attribute = name.partition(":")
    if not separator or not attribute:
        raise DeclarationError(
            f'{name!r} is not the name of an application: write "module:attribute", as in "chat.sockets:app".'
        )
    found = importlib.import_module(module)
    if not hasattr(found, attribute):
        raise DeclarationError(
            f"Module {module!r} has no {attribute!r}: use the name of its FastAPI instance."
        )
    return load(getattr(found, attribute))


class Identify:
    """Adds Django's session and user to the scope; refuses with 503 while the database fails.

    A handshake that no route of `sockets` would take because of MAX_CONNECTIONS is refused before that.
    """

    def __init__(self, inner: ASGIApp, sockets: Any = None) -> None:
        self.inner = inner
        self.sockets = sockets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from fastws_compat.logins.identify import identify

        __tracebackhide__ = True
        if self.sockets is not None and process_is_full() and self.sockets.serves(scope):
            log_full()
            await refuse(scope, send, 503, reason="limit_process")
            return
        try:
            scope = await identify(scope)
        except HTTPException as exc:
            await refuse(scope, send, exc.status_code, reason=reason_of(exc))
        except Exception as exc:
            # As text: Django's frames between here and the error hold the key of the session.
            text = as_text(exc)
            logger.error("WebSocket refused: the user cannot be identified\n%s", text, exc_info=bare(exc))
            await refuse(scope, send, 500, reason="error")
        else:
            await self.inner(scope, receive, send)


def _with_fallback(app: Any, fallback: ASGIApp) -> ASGIApp:
    async def choose(scope: Scope, receive: Receive, send: Send) -> None:
        __tracebackhide__ = True
        if app.serves(scope):
            await app(scope, receive, send)
        elif health.is_closed:
            await refuse(scope, send, 503, reason="stopping")
        else:
            turn: Turn | None = scope.get(TURN)
            send = send if turn is None else turn.watch(send)
            await run_router(fallback, _with_lazy_user(scope), receive, send, app.router.hint)

    return choose


def _with_lazy_user(scope: Scope) -> Scope:
    """The scope as Channels' `AuthMiddleware` leaves it; middleware of the project sets `_wrapped`."""
    from channels.auth import UserLazyObject
    from django.utils.functional import LazyObject

    if "user" not in scope or isinstance(scope["user"], LazyObject):
        return scope
    user = UserLazyObject()
    user._wrapped = scope["user"]
    return {**scope, "user": user}
