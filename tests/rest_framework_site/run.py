"""The documented recipes for tokens, in a process with Django REST framework installed.

Prints the result of each for an active user, an inactive user, a wrong token, and an open socket
whose user is deactivated.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import django
from django.conf import settings

ROOT = Path(__file__).resolve().parents[2]
HOWTO = ROOT / "docs" / "howto"
sys.path.insert(0, str(ROOT))
settings.configure(
    SECRET_KEY="a key that is long enough for a signature by HS256",
    ALLOWED_HOSTS=["testserver"],
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "rest_framework",
        "rest_framework.authtoken",
        "fastws_compat",
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()

import jwt  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from rest_framework.authtoken.models import Token  # noqa: E402
from rest_framework_simplejwt.tokens import AccessToken  # noqa: E402

from fastws_compat import WebSocketDisconnect  # noqa: E402
from fastws_compat.testclient import TestClient, WebSocketDenialResponse  # noqa: E402

KEY = "a key that is long enough for a signature by HS256"
IMPORTS = """
import jwt
from rest_framework.authtoken.models import Token
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.tokens import AccessToken
"""


def block(page: str, heading: str) -> str:
    """The first Python block below a heading."""
    section = (HOWTO / page).read_text().split(f"\n## {heading}\n")[1]
    return re.findall(r"```python.*\n((?:.*\n)*?)```", section)[0]  # type: ignore[no-any-return]


def rows() -> dict[str, tuple[str, str]]:
    """The documented table of other tokens: for each name, the code that finds the user and its exception."""
    text = (HOWTO / "authentication.md").read_text()
    table = text.split("| token | the user | what is caught |\n")[1].split("\n\n")[0]
    cells = [row.strip("| ").split(" | ") for row in table.splitlines()[1:]]
    return {name.strip("`"): (user.strip("`"), error.strip("`")) for name, user, error in cells}


def with_row(source: str, user: str, error: str) -> str:
    """The recipe of the signer, changed according to the table, without the part that tests it."""
    source = IMPORTS + source.split('ann = User.objects.create_user("ann")')[0]
    for old, new in (
        ("        pk = signer.unsign_object(sent.credentials, max_age=60)\n", ""),
        ("await User.objects.aget(pk=pk)", user),
        ("except (BadSignature,", f"except ({error},"),
    ):
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


def application(source: str) -> Any:
    module = ModuleType("recipe")
    module.__dict__["key"] = KEY
    exec(compile(source, "docs", "exec"), vars(module))
    return module.app


def answer(app: Any, word: str, token: str, subprotocol: bool = False) -> str:
    options: dict[str, Any] = (
        {"subprotocols": ["bearer", token]}
        if subprotocol
        else {"headers": {"authorization": f"{word} {token}"}}
    )
    try:
        with TestClient(app, timeout=10).websocket_connect("/ws/feed", **options) as socket:
            return socket.receive_text()
    except WebSocketDenialResponse as refusal:
        return f"{refusal.status_code} {refusal.headers.get('www-authenticate', '')}".strip()


def end(app: Any, word: str, token: str, user: User) -> int:
    """The code with which an open socket is closed when its user is deactivated."""
    headers = {"authorization": f"{word} {token}"}
    with TestClient(app, timeout=10).websocket_connect("/ws/feed", headers=headers) as socket:
        socket.receive_text()
        user.is_active = False
        user.save()
        try:
            socket.receive_text()
        except WebSocketDisconnect as closed:
            return closed.code
    raise AssertionError("the socket stayed open")


def tell(name: str, source: str, word: str, token: Callable[[User], str]) -> None:
    app = application(source)
    ann = User.objects.create_user("ann")
    sent = token(ann)
    told = [answer(app, word, sent), answer(app, word, sent, subprotocol=True), end(app, word, sent, ann)]
    told += [answer(app, word, sent), answer(app, word, "wrong")]
    ann.delete()
    print(f"{name}:", *told, sep=" | ")


def decoded(user: User) -> str:
    return jwt.encode({"sub": str(user.pk), "aud": "websocket"}, KEY, "HS256")


call_command("migrate", run_syncdb=True, verbosity=0)
MAKERS: dict[str, Callable[[User], str]] = {
    "djangorestframework-simplejwt": lambda user: str(AccessToken.for_user(user)),
    "rest_framework.authtoken": lambda user: str(Token.objects.create(user=user).key),
    "any other JWT": decoded,
}
tell(
    "Authorization: Token",
    block("tokens.md", "Django REST framework"),
    "Token",
    MAKERS["rest_framework.authtoken"],
)
recipe = block("authentication.md", "A token instead of a cookie")
table = rows()
assert table.keys() == MAKERS.keys()
for name, row in table.items():
    tell(name, with_row(recipe, *row), "Bearer", MAKERS[name])
