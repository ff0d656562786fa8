"""The page and the document. The modules that describe routes are imported at the first request."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from urllib.parse import urlsplit

from django.http import HttpRequest, HttpResponse, HttpResponseServerError
from django.template import Context, Engine, Template
from django.templatetags.static import static
from django.views.decorators.http import require_safe

from fastws_compat.docs.access import View, guarded
from fastws_compat.exceptions import DeclarationError
from fastws_compat.logger import logger

TEMPLATES = Path(__file__).parent.parent / "templates"


def _view(make: Callable[[HttpRequest], HttpResponse]) -> View:
    """Make a view that browsers and proxies do not cache, because access to it may be revoked."""

    @require_safe
    @guarded
    @wraps(make)
    def view(request: HttpRequest) -> HttpResponse:
        try:
            response = make(request)
        except (ImportError, DeclarationError) as exc:
            logger.error("The sockets cannot be documented: %s", exc)
            response = HttpResponseServerError(
                "The sockets cannot be documented. The server's log says why.\n"
            )
        response["Cache-Control"] = "no-store"
        return response

    return view


@_view
def page(request: HttpRequest) -> HttpResponse:
    from fastws_compat.docs import content

    data = content.page(request)
    response = HttpResponse(_template().render(Context({"data": data, "info": data["info"]})))
    response["Content-Security-Policy"] = policy(request)
    return response


@_view
def document(request: HttpRequest) -> HttpResponse:
    from fastws_compat.docs import content

    return HttpResponse(content.document(request), content_type="application/json")


def policy(request: HttpRequest) -> str:
    """The Content Security Policy: everything from this site, nothing inline, sockets to this host only."""
    own = f"'self'{_static_origin()}"
    socket = f"{'wss' if request.is_secure() else 'ws'}://{request.get_host()}"
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {own}",
            f"style-src {own}",
            # In Safari before 15.4, 'self' does not include the site's own sockets.
            f"connect-src 'self' {socket}",
            "img-src 'self' data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )


def _static_origin() -> str:
    """The origin of static files after a space, or "" if it is the site's own."""
    url = urlsplit(static("fastws/docs.js"))
    if not url.netloc:
        return ""
    return f" {url.scheme}://{url.netloc}" if url.scheme else f" {url.netloc}"


@cache
def _template() -> Template:
    """The page's template, which does not depend on the project's engines."""
    libraries = {"static": "django.templatetags.static"}
    return Engine(dirs=[str(TEMPLATES)], libraries=libraries).get_template("fastws/docs.html")
