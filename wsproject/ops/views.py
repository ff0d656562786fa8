from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse


def live(request: HttpRequest) -> HttpResponse:
    """Render the operations page in the admin's layout."""
    context = {**admin.site.each_context(request), "title": "Live operations"}
    request.current_app = admin.site.name
    return TemplateResponse(request, "ops/live.html", context)
