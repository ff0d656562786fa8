"""URLs with the metrics view, for processes that are gathered."""

from django.urls import path

from fastws_compat.contrib.prometheus import metrics

urlpatterns = [path("metrics/sockets", metrics)]
