"""Settings, an app and no URLs, for the test that starts `manage.py runserver`."""

from django.apps import AppConfig

SECRET_KEY = "tests-only"
DEBUG = True
USE_TZ = True
INSTALLED_APPS = ["daphne", "tests.servers.runserver.Completed"]
ROOT_URLCONF = "tests.servers.runserver"
ASGI_APPLICATION = "tests.servers.apps.app"

urlpatterns: list[object] = []


class Completed(AppConfig):
    name = "tests.servers"

    def ready(self) -> None:
        from fastws_compat.daphne import install

        assert install() == "complete"
