"""The documentation page of the sockets: `path("ws-docs/", include("fastws_compat.docs"))`."""

from __future__ import annotations

from django.urls import path

from fastws_compat.docs import views

app_name = "fastws_docs"
urlpatterns = [
    path("", views.page, name="page"),
    path("asyncapi.json", views.document, name="document"),
]
