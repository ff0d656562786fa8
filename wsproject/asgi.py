"""The ASGI application that daphne, uvicorn and `runserver` serve."""

import os

from fastws_compat.asgi import get_asgi_application  # was: from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "wsproject.settings")
application = get_asgi_application()
