"""The pages of the chat. What is said while a page is open arrives over the socket."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from django.contrib.auth.decorators import login_required
from django.db.models import Max
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone

from .models import MAX_TEXT, Room
from .sockets import recent, room_group


@login_required
def rooms(request: HttpRequest) -> HttpResponse:
    context = {
        "rooms": Room.objects.annotate(last_sent=Max("messages__sent_at")),
        "a_minute_ago": timezone.now() - timedelta(minutes=1),
    }
    return render(request, "chat/rooms.html", context)


@login_required
def room(request: HttpRequest, slug: str) -> HttpResponse:
    found = get_object_or_404(Room, slug=slug)
    context = {
        "room": found,
        "rooms": Room.objects.all(),
        "group": room_group(found),
        "recent": partial(recent, found),  # called by the template, after it has read the position
        "max_text": MAX_TEXT,
    }
    return render(request, "chat/room.html", context)


@login_required
def messages(request: HttpRequest, slug: str) -> JsonResponse:
    """What a page loads if it has missed more than the history can give back."""
    found = get_object_or_404(Room, slug=slug)
    position = room_group(found).position()  # before the messages: one sent in between then comes twice
    return JsonResponse({"position": position, "messages": recent(found)})
