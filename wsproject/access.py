"""Who the demo's sockets are for."""

from __future__ import annotations

from typing import Annotated

from django.contrib.auth.models import User

from fastws_compat import Depends
from fastws_compat.auth import login_required

# Anybody who is logged in.
Member = Annotated[User, Depends(login_required)]
