"""URLs of a site with a page that deletes sessions, as an operator's page or "log out everywhere" does."""

from __future__ import annotations

from django.contrib.sessions.models import Session
from django.http import HttpRequest, HttpResponse
from django.urls import path


def delete(request: HttpRequest) -> HttpResponse:
    Session.objects.filter(pk=request.POST["key"]).delete()
    return HttpResponse()


urlpatterns = [path("delete/", delete)]
