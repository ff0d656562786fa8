"""The application of `faults` in a Django project with a database and a channel layer."""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile

import django
from django.conf import settings

directory = tempfile.TemporaryDirectory(prefix="fastws-faults-")
database = f"{directory.name}/faults.sqlite3"
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": database}},
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    INSTALLED_APPS=["django.contrib.contenttypes"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    FASTWS=json.loads(os.environ.get("FASTWS", "{}")),
)
django.setup()

from django.contrib.contenttypes.models import ContentType  # noqa: E402

from tests.servers import faults  # noqa: E402

app = faults.app


def create_table() -> None:
    """Does not use the ORM: uvicorn imports this in its event loop, where the sync ORM refuses to run."""
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE django_content_type (id integer PRIMARY KEY, app_label, model)")
    connection.close()


async def query() -> None:
    await ContentType.objects.acount()


def sync_query() -> None:
    ContentType.objects.count()


create_table()
faults.query, faults.sync_query = query, sync_query
