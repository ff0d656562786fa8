from django.apps import AppConfig


class TourConfig(AppConfig):
    name = "wsproject.tour"
    verbose_name = "Tour of the capabilities"
