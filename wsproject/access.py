"""Who may open a socket: dependencies that stop the handshake of everybody else."""

from __future__ import annotations

from typing import Annotated

from django.contrib.auth.models import AnonymousUser, User

from fastws_compat import Depends, HTTPException, WebSocket, status


def current_user(websocket: WebSocket) -> User | AnonymousUser:
    """The user of Django's session, as `AuthMiddlewareStack` found it."""
    user: User | AnonymousUser = websocket.scope["user"]
    return user


def member(user: Annotated[User | AnonymousUser, Depends(current_user)]) -> User:
    """Anybody who is logged in."""
    if isinstance(user, AnonymousUser):
        raise HTTPException(status.HTTP_403_FORBIDDEN, "Log in first.")
    return user


def staff(user: Annotated[User, Depends(member)]) -> User:
    """Whoever may use the Django admin."""
    if not user.is_staff:
        raise HTTPException(status.HTTP_403_FORBIDDEN, "For staff only.")
    return user


Member = Annotated[User, Depends(member)]
