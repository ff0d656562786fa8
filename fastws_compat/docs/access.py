"""Who may see the documentation page: `FASTWS["DOCS_ACCESS"]`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any

from asgiref.sync import async_to_sync
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import resolve_url
from django.utils.module_loading import import_string

from fastws_compat import conf

View = Callable[[HttpRequest], HttpResponse]
Rule = Callable[[HttpRequest], Any]


def guarded(view: View) -> View:
    """Restrict a view to those who may see the page. Visitors go to `LOGIN_URL`; other users get 404."""

    @wraps(view)
    def checked(request: HttpRequest) -> HttpResponse:
        if _rule()(request):
            return view(request)
        user = getattr(request, "user", None)
        if user is None or user.is_authenticated:
            raise Http404
        return _to_login(request)

    return checked


def is_staff(request: HttpRequest) -> bool:
    """Whether the request is from an active staff user."""
    user: Any = getattr(request, "user", None)
    return bool(getattr(user, "is_active", False) and getattr(user, "is_staff", False))


def _everybody(request: HttpRequest) -> bool:
    return True


RULES: dict[str, Rule] = {"staff": is_staff, "public": _everybody}


def _rule() -> Rule:
    access = conf.get("DOCS_ACCESS")
    if access is None:
        access = "public" if settings.DEBUG else "staff"
    rule: Rule = RULES.get(access) or import_string(access)
    return async_to_sync(rule) if iscoroutinefunction(rule) else rule


def _to_login(request: HttpRequest) -> HttpResponse:
    """Like `redirect_to_login`, which needs `django.contrib.auth` to be installed."""
    query = QueryDict(mutable=True)
    query["next"] = request.get_full_path()
    url = resolve_url(settings.LOGIN_URL)
    return HttpResponseRedirect(f"{url}{'&' if '?' in url else '?'}{query.urlencode(safe='/')}")
