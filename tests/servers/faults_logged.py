"""The application of `faults` in a Django project that logs how connections end."""

from __future__ import annotations

import django
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["fastws_compat"],
    FASTWS={"ACCESS_LOG": True, "ALLOWED_ORIGINS": ["*"]},
    LOGGING={
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": "ACCESS %(connection_id)s %(message)s"}},
        "handlers": {"access": {"class": "logging.StreamHandler", "formatter": "line"}},
        "loggers": {"fastws_compat.access": {"handlers": ["access"], "level": "INFO"}},
    },
)
django.setup()

from tests.servers import faults  # noqa: E402

app = faults.app
