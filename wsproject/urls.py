"""The URLs of the demo."""

from __future__ import annotations

import warnings

from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import include, path

from wsproject.tour.views import home

# Django warns of each file that it serves through ASGI, its own static files included.
warnings.filterwarnings("ignore", "StreamingHttpResponse must consume synchronous iterators", Warning)

urlpatterns = [
    path("", home, name="home"),
    path("tour/", include("wsproject.tour.urls")),
    path("login/", LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("chat/", include("wsproject.chat.urls")),
    path("ws-docs/", include("fastws_compat.docs")),
    path("admin/ops/", include("wsproject.ops.urls")),
    path("admin/", admin.site.urls),
    *staticfiles_urlpatterns(),  # with DEBUG only: daphne and uvicorn do not serve static files
]
