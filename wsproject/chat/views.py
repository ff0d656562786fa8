"""The two pages of the chat. Live updates arrive over the socket."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.auth.decorators import login_required
from django.db.models import Max
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone

from .models import MAX_TEXT, Room


@login_required
def rooms(request: HttpRequest) -> HttpResponse:
    context = {
        "rooms": Room.objects.annotate(last_sent=Max("messages__sent_at")),
        "a_minute_ago": timezone.now() - timedelta(minutes=1),
    }
    return render(request, "chat/rooms.html", context)


@login_required
def room(request: HttpRequest, slug: str) -> HttpResponse:
    context = {
        "room": get_object_or_404(Room, slug=slug),
        "rooms": Room.objects.all(),
        "max_text": MAX_TEXT,
    }
    return render(request, "chat/room.html", context)
