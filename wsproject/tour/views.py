"""The home page, the code behind each capability, and the view that sends to a group."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_POST

from .capabilities import BY_SLUG, CAPABILITIES
from .sockets import news


def home(request: HttpRequest) -> HttpResponse:
    available = [capability for capability in CAPABILITIES if capability.is_available]
    return render(request, "wsproject/home.html", {"capabilities": available})


def code(request: HttpRequest, slug: str) -> HttpResponse:
    capability = BY_SLUG.get(slug)
    if capability is None:
        raise Http404("No such capability.")
    return render(request, "tour/code.html", {"capability": capability})


@require_POST
@login_required
def publish(request: HttpRequest) -> HttpResponse:
    """Send to every socket that joined the group: one line in an ordinary view."""
    news.send({"news": f"{request.user.get_username()} pressed the button", "at": timezone.now().isoformat()})
    return HttpResponse(status=204)
