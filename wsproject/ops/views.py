from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse

from .journal import recent, staff_group


def live(request: HttpRequest) -> HttpResponse:
    """Render the operations page in the admin's layout."""
    context = {
        **admin.site.each_context(request),
        "title": "Live operations",
        "group": staff_group,
        "recent": recent,  # called by the template, after it has read the position
    }
    request.current_app = admin.site.name
    return TemplateResponse(request, "ops/live.html", context)


def entries(request: HttpRequest) -> JsonResponse:
    """What a page loads if it has missed more than the history can give back."""
    position = staff_group.position()  # before the entries: one sent in between then comes twice
    return JsonResponse({"position": position, "entries": recent()})
