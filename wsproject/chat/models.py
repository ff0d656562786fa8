"""Rooms and their messages."""

from __future__ import annotations

from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db import models, transaction

MAX_TEXT = 2000


class Room(models.Model):
    """A chat room; `last_number` is the number of its newest message."""

    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=80)
    topic = models.CharField(max_length=200, blank=True)
    last_number = models.PositiveIntegerField(default=0, editable=False)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name

    def post(self, author: User, key: UUID, text: str) -> tuple[Message, bool]:
        """Save a message once, even if it is sent several times: the client chooses `key` to identify it.

        The room's row is locked, so numbers have no gaps and are committed in order: a client that receives
        number 9 after number 7 knows that 8 is missing.
        """
        with transaction.atomic():
            room = Room.objects.select_for_update().get(pk=self.pk)
            known = room.messages.select_related("author").filter(author=author, key=key).first()
            if known:
                return known, False
            room.last_number += 1
            room.save(update_fields=["last_number"])
            message = room.messages.create(author=author, key=key, text=text, number=room.last_number)
            return message, True


class Message(models.Model):
    """A message in a room; `number` counts within the room."""

    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="messages")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="messages")
    number = models.PositiveIntegerField(editable=False)
    key = models.UUIDField(editable=False)
    text = models.TextField(max_length=MAX_TEXT)
    sent_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("room", "number")
        constraints = (
            models.UniqueConstraint(fields=["room", "number"], name="message_number"),
            models.UniqueConstraint(fields=["room", "author", "key"], name="message_once"),
        )

    def __str__(self) -> str:
        return f"{self.author.get_username()}: {self.text[:60]}"
