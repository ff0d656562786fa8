from __future__ import annotations

from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path

from fastws_compat.groups import Group


def sync_view(request: HttpRequest) -> HttpResponse:
    Group("shop").send({"from": "a sync view"})
    return HttpResponse()


async def async_view(request: HttpRequest) -> HttpResponse:
    await Group("shop").asend({"from": "an async view"})
    return HttpResponse()


def customer(request: HttpRequest, name: str) -> HttpResponse:
    """Save a user, which sends a signal. Saving a user named "nobody" fails."""
    with transaction.atomic():
        User.objects.create(username=name)
        Group("shop").send({"saving": name})
        if name == "nobody":
            transaction.set_rollback(True)
    return HttpResponse()


urlpatterns = [
    path("sync", sync_view),
    path("async", async_view),
    path("customers/<str:name>", customer),
]
