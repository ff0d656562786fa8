"""The chat's two pages; what moves in them comes over the socket."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.db.models import Max
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render

from .models import MAX_TEXT, Room


@login_required
def rooms(request: HttpRequest) -> HttpResponse:
    listed = Room.objects.annotate(last_sent=Max("messages__sent_at"))
    return render(request, "chat/rooms.html", {"rooms": listed})


@login_required
def room(request: HttpRequest, slug: str) -> HttpResponse:
    context = {
        "room": get_object_or_404(Room, slug=slug),
        "rooms": Room.objects.all(),
        "max_text": MAX_TEXT,
    }
    return render(request, "chat/room.html", context)
