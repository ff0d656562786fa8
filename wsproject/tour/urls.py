from django.urls import path

from . import views

app_name = "tour"
urlpatterns = [
    path("code/<slug:slug>/", views.code, name="code"),
    path("publish/", views.publish, name="publish"),
]
