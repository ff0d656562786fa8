"""Rooms and their messages."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import User
from django.db import models

MAX_TEXT = 2000
MAX_KEY = 50


class Room(models.Model):
    """A chat room."""

    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=80)
    topic = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name

    def post(self, author: User, key: str, text: str) -> Message:
        """Save a message once, even if it is sent several times: the client chooses `key` to identify it."""
        messages = Message.objects.select_related("author")
        return messages.get_or_create(room=self, author=author, key=key, defaults={"text": text})[0]


class Message(models.Model):
    """A message in a room."""

    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="messages")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="messages")
    key = models.CharField(max_length=MAX_KEY, editable=False)
    text = models.TextField(max_length=MAX_TEXT)
    sent_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("room", "pk")
        constraints = (models.UniqueConstraint(fields=["room", "author", "key"], name="message_once"),)

    def __str__(self) -> str:
        return f"{self.author.get_username()}: {self.text[:60]}"
