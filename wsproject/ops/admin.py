from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.actions import delete_selected as django_delete_selected
from django.contrib.admin.models import LogEntry
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy

from .journal import announce


@admin.action(permissions=["delete"], description=gettext_lazy("Delete selected %(verbose_name_plural)s"))
def delete_selected(
    modeladmin: admin.ModelAdmin[Any], request: HttpRequest, queryset: QuerySet[Model]
) -> HttpResponse | None:
    """Run Django's action and announce its log entries: `bulk_create` sends no signal for them.

    A single entry does send the signal. Announcing it a second time has no effect.
    """
    last = LogEntry.objects.order_by("pk").last()
    response = django_delete_selected(modeladmin, request, queryset)
    written = LogEntry.objects.filter(pk__gt=last.pk if last else 0, user=request.user.pk)
    for entry in written.select_related("user", "content_type").order_by("pk"):
        announce(entry)
    return response


admin.site.add_action(delete_selected, "delete_selected")
