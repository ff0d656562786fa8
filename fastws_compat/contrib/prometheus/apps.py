"""The metrics as an app, for projects that use django-prometheus."""

from django.apps import AppConfig
from prometheus_client.registry import REGISTRY

from fastws_compat.contrib.prometheus import enter


class PrometheusConfig(AppConfig):
    """Registers the collector in prometheus_client's default registry, which django-prometheus exports."""

    name = "fastws_compat.contrib.prometheus"
    label = "fastws_prometheus"

    def ready(self) -> None:
        enter(REGISTRY)
