from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest

from .models import Message, Room


@admin.register(Room)
class RoomAdmin(admin.ModelAdmin):
    list_display = ("name", "slug", "topic")
    search_fields = ("name", "topic")
    prepopulated_fields = {"slug": ("name",)}  # noqa: RUF012  Django reads it as a constant


@admin.register(Message)
class MessageAdmin(admin.ModelAdmin):
    """Messages can be read and deleted only: what is in the admin alone would not reach the open tabs."""

    list_display = ("sent_at", "room", "author", "text")
    list_filter = ("room", "author")
    list_select_related = ("room", "author")
    search_fields = ("text",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Message | None = None) -> bool:
        return False
