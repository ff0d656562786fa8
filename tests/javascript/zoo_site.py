"""The zoo, for daphne."""

import django

django.setup()

from tests.zoo import app as application  # noqa: E402, F401
