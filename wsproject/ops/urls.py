from django.contrib import admin
from django.urls import path

from . import views

app_name = "ops"
urlpatterns = [
    path("", admin.site.admin_view(views.live), name="live"),
    path("entries/", admin.site.admin_view(views.entries), name="entries"),
]
