"""The users who may open the demo's sockets."""

from __future__ import annotations

from typing import Annotated

from django.contrib.auth.models import User

from fastws_compat import Depends
from fastws_compat.auth import login_required

# A logged-in user.
Member = Annotated[User, Depends(login_required)]
