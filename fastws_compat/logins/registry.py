"""The open sockets that somebody's login keeps open, and how they are closed when it ends.

Processes tell each other over the channel layer, if there is one that reaches them. The messages of the
group `fastws_compat.logins` are

    {"type": "fastws.logins", "sender": ..., "event": "end", "user": "5", "session": digest or None,
     "code": 4401, "reason": ""}
    {"type": "fastws.logins", "sender": ..., "event": "recheck", "users": ["5"], or None for everybody}

where a digest stands for the session's key, which would open the session to whoever reads it. A "tenant" is
added for users outside of the default database, see `tenants`.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, TypeVar
from uuid import uuid4

from asgiref.sync import async_to_sync
from channels.exceptions import InvalidChannelLayerError
from channels.layers import InMemoryChannelLayer, get_channel_layer
from django.utils.crypto import salted_hmac

from fastws_compat import conf
from fastws_compat.connections.closing import close_message
from fastws_compat.connections.interrupt import Interrupt
from fastws_compat.connections.lifecycle import Session
from fastws_compat.connections.pipe import Place as StagePlace
from fastws_compat.connections.pipe import Stage, pipe_of
from fastws_compat.connections.states import SESSION
from fastws_compat.layers.outbox import PATIENCE, RETRY, outbox_of
from fastws_compat.logger import logger
from fastws_compat.logins.judge import BATCH, LOGGED_OUT, Claim, Condition, judge, run_in
from fastws_compat.logins.lookups import look_up
from fastws_compat.logins.tenants import Place, activated
from fastws_compat.types import Message
from fastws_compat.websockets import WebSocket, WebSocketDisconnect, WebSocketState

T = TypeVar("T")

LOGIN = "fastws_compat.login"
GROUP = "fastws_compat.logins"
MESSAGE_TYPE = "fastws.logins"
PROCESS = uuid4().hex

# Seconds after which the membership of the layer's group is renewed: channels_redis forgets it after a day,
# and Redis when it restarts.
RENEWAL = 600

# When the user of a scope was looked up, as `time.monotonic()` says it.
IDENTIFIED_AT = "fastws_compat.identified_at"
# So many of the latest news are kept; a handshake that took longer than these has its login checked.
MOST_NEWS = 1000

_lock = threading.RLock()
_keepers: dict[asyncio.AbstractEventLoop, Keeper] = {}
_news: deque[News] = deque(maxlen=MOST_NEWS)


def session_digest(key: str) -> str:
    return salted_hmac(GROUP, key, algorithm="sha256").hexdigest()


class Login(Stage):
    """One open socket and the login behind it; stands between the endpoint and the server.

    Once it has ended the endpoint is given nothing more of what the client sends, and can send nothing.
    """

    place = StagePlace.LOGIN

    def __init__(
        self,
        websocket: WebSocket,
        session: Session,
        user_id: str,
        session_key: str | None,
        session_name: str | None,
        place: Place,
    ) -> None:
        self.websocket = websocket
        self.session = session
        self.user_id = user_id
        self.located = place
        self.session_key = session_key
        self.digest = session_digest(session_name) if session_name else None
        self.conditions: list[Condition] = []
        self.end: tuple[int, str] | None = None
        self._state = WebSocketState.CONNECTING
        self.loop = asyncio.get_running_loop()
        # Middleware may have put into it which tenant's this is.
        self.context = copy_context()
        self._holds = 0
        self._released = asyncio.Event()
        self._interrupt = Interrupt()
        self._close_task: asyncio.Task[None] | None = None
        pipe_of(websocket).insert(self)

    @property
    def passes(self) -> bool:
        """Whether what is sent simply goes on to the server."""
        return self.end is None

    @property
    def claim(self) -> Claim:
        conditions = tuple(self.conditions)
        return Claim(self.user_id, self.session_key, conditions, self.located.using, self.context)

    def ask(self, condition: Condition) -> None:
        """Have the user meet `condition` for as long as the socket is open."""
        if condition not in self.conditions:
            self.conditions.append(condition)

    async def receive(self) -> Message:
        message: Message | None = None
        if self.end is None:
            message = await self._interrupt.wait(self._receive)
            while self._holds and self.end is None:
                self._released.clear()
                await self._interrupt.wait(self._released.wait)
        if self.end is None and message is not None:
            return message
        code, reason = self.end or (LOGGED_OUT, "")
        if self.websocket.client_state is WebSocketState.CONNECTING:
            raise WebSocketDisconnect(code, reason)
        return {"type": "websocket.disconnect", "code": code, "reason": reason}

    async def send(self, message: Message) -> None:
        if self.end is None:
            await self._send(message)
        elif message["type"] != "websocket.close":  # an endpoint may well say good-bye too
            raise WebSocketDisconnect(*self.end)

    def close(self, code: int, reason: str) -> None:
        """End the login, from any thread: from here on nothing that the client sent is handed out."""
        with _lock:
            if self.end is not None:
                return
            self.end = (code, reason)
            self._state = self.session.state
            if self._state is not WebSocketState.RESPONSE:
                self.session.mark_closed()
        _call(self.loop, self.context, self._leave)

    def _leave(self) -> None:
        if self._close_task is not None:
            return
        self._close_task = self.loop.create_task(self._say_goodbye())
        self._interrupt.fire()

    async def _say_goodbye(self) -> None:
        if self.end is None or self._state not in (WebSocketState.CONNECTING, WebSocketState.CONNECTED):
            return
        code, reason = self.end
        extra = {**self.session.extra, "code": code}
        logger.info("WebSocket %s: the login ended; closed with %d", extra["route"], code, extra=extra)
        try:
            await self._send(close_message(code, reason))
        except Exception as exc:
            logger.debug("The client was gone before its login ended (%r)", exc)

    async def over(self) -> None:
        """The connection is over; the server still gets the close frame."""
        if self.end is not None:
            self._leave()
        if self._close_task is not None:
            await self._close_task

    def hold(self) -> None:
        """Hand out nothing until `release`: it is being decided whether the login has ended."""
        with _lock:
            self._holds += 1

    def release(self) -> None:
        with _lock:
            self._holds -= 1
        if not self._holds:
            self._released.set()


class Keeper:
    """The logins of one event loop, which in a server is the process."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.logins: set[Login] = set()
        self.by_user: dict[str, set[Login]] = {}
        self.by_session: dict[str, set[Login]] = {}
        self._services: list[asyncio.Task[None]] = []
        self._checks: set[asyncio.Task[None]] = set()
        self._deaf = False

    def add(self, login: Login) -> None:
        with _lock:
            self.logins.add(login)
            self.by_user.setdefault(login.user_id, set()).add(login)
            if login.digest:
                self.by_session.setdefault(login.digest, set()).add(login)
        if not self._services:
            self._start()

    async def remove(self, login: Login) -> None:
        with _lock:
            self.logins.discard(login)
            _discard(self.by_user, login.user_id, login)
            if login.digest:
                _discard(self.by_session, login.digest, login)
            if not self.logins:
                self._stop()
                _keepers.pop(self.loop, None)
        await login.over()

    def find(
        self, users: Iterable[str] | None, digest: str | None = None, tenant: str | None = None
    ) -> set[Login]:
        """The logins of these users (None: of all), or those of them in one session or of one tenant."""
        with _lock:
            found = set(self.logins if digest is None else self.by_session.get(digest, ()))
            if users is not None:
                found &= set[Login]().union(*(self.by_user.get(user, ()) for user in users))
        return found if tenant is None else {login for login in found if login.located.tenant == tenant}

    def _start(self) -> None:
        seconds, layer = conf.get("REVALIDATE_SECONDS"), shared_layer()
        if seconds:
            self._serve(self._revalidate(seconds))
        if layer is not None:
            self._serve(self._listen(layer))

    def _serve(self, service: Coroutine[Any, Any, None]) -> None:
        # In no connection's context: it serves those of all tenants.
        self._services.append(self.loop.create_task(service, context=Context()))

    def _stop(self) -> None:
        for service in self._services:
            service.cancel()
        self._services.clear()

    async def _revalidate(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self.check(list(self.find(None)))

    def recheck(self, logins: Sequence[Login]) -> None:
        """Check the logins soon, from any thread; meanwhile none of their clients is heard."""
        for login in logins:
            login.hold()
        _call(self.loop, Context(), lambda: self._begin(logins))

    def _begin(self, logins: Sequence[Login]) -> None:
        task = self.loop.create_task(self._check_held(logins))
        self._checks.add(task)
        task.add_done_callback(self._checks.discard)

    async def _check_held(self, logins: Sequence[Login]) -> None:
        try:
            await self.check(logins)
        finally:
            for login in logins:
                login.release()

    async def check(self, logins: Sequence[Login]) -> None:
        """Judge the logins and close those that no longer hold; all stay if the database cannot tell."""
        of_place: dict[Place, list[Login]] = defaultdict(list)
        for login in logins:
            of_place[login.located].append(login)
        for place, neighbours in of_place.items():
            for start in range(0, len(neighbours), BATCH):
                if not await self._check_batch(place, neighbours[start : start + BATCH]):
                    break

    async def _check_batch(self, place: Place, batch: Sequence[Login]) -> bool:
        """Judge logins of one place, in the context of one of them."""
        logins = [login for login in batch if login in self.logins]  # others have ended meanwhile
        if not logins:
            return True
        claims = [login.claim for login in logins]
        try:
            verdicts = await look_up(_judge, place, claims, logins[0].context)
        except Exception as exc:
            logger.warning("Open WebSockets could not be revalidated (%s: %s)", type(exc).__name__, exc)
            return False
        for login, code in zip(logins, verdicts, strict=True):
            if code is not None:
                login.close(code, "")
        return True

    async def _listen(self, layer: Any) -> None:
        """Do what other processes say; a layer that fails is tried again, and everybody checked after it."""
        while True:
            try:
                await self._join(layer)
            except Exception as exc:
                if not self._deaf:
                    logger.warning("Logins that end elsewhere are not heard of: %r", exc)
                self._deaf = True
                await asyncio.sleep(RETRY)

    async def _join(self, layer: Any) -> None:
        channel = await layer.new_channel()
        await layer.group_add(GROUP, channel)
        if self._deaf:
            self.recheck(list(self.find(None)))
        self._deaf = False
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(RENEWAL):
                        obey(await layer.receive(channel))
                        continue
                await layer.group_add(GROUP, channel)
        finally:
            with suppress(Exception):
                async with asyncio.timeout(PATIENCE):
                    await layer.group_discard(GROUP, channel)


def _judge(place: Place, claims: Sequence[Claim], context: Context) -> list[int | None]:
    with activated(place):
        return run_in(context, judge, claims)


def _discard(index: dict[str, set[Login]], key: str, login: Login) -> None:
    logins = index.get(key, set())
    logins.discard(login)
    if not logins:
        index.pop(key, None)


def _call(loop: asyncio.AbstractEventLoop, context: Context, callback: Callable[[], None]) -> None:
    """Run `callback` in the loop, unless it is closed and its sockets with it.

    Not in the caller's context: asgiref keeps in it which thread a request may use, and until when.
    """
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(callback, context=context)


def keep(
    websocket: WebSocket,
    user_id: str,
    session_key: str | None,
    session_name: str | None = None,
    place: Place = Place(),
) -> Login | None:
    """The login of this socket, entered at the first call; None outside of a session of ours."""
    login: Login | None = websocket.scope.get(LOGIN)
    session: Session | None = websocket.scope.get(SESSION)
    if login is not None or session is None:
        return login
    login = Login(websocket, session, user_id, session_key, session_name, place)
    websocket.scope[LOGIN] = login
    with _lock:
        keeper = _keepers.get(login.loop) or _keepers.setdefault(login.loop, Keeper(login.loop))
        keeper.add(login)
    entered = login
    session.at_end(lambda: keeper.remove(entered))
    _catch_up(keeper, login, websocket.scope.get(IDENTIFIED_AT, session.begun))
    return login


# What a socket has missed that was being opened


@dataclass(frozen=True, slots=True)
class News:
    """Something that has happened to logins, and whom it is about; None is everybody."""

    at: float
    users: Sequence[str] | None
    digest: str | None = None
    end: tuple[int, str] | None = None
    tenant: str | None = None

    def concerns(self, login: Login) -> bool:
        is_user = self.users is None or login.user_id in self.users
        is_tenant = self.tenant in (None, login.located.tenant)
        return is_user and is_tenant and self.digest in (None, login.digest)


def _catch_up(keeper: Keeper, login: Login, since: float) -> None:
    """Apply to a login what was told between the look at its session and its entry here."""
    missed = list(takewhile(lambda news: news.at >= since, reversed(list(_news))))
    told = [news for news in missed if news.concerns(login)]
    for news in told:
        if news.end is not None:
            login.close(*news.end)
    if login.end is None and (told or len(missed) == MOST_NEWS):
        keeper.recheck([login])


# Everywhere


def end(
    user: str | None,
    digest: str | None = None,
    code: int = LOGGED_OUT,
    reason: str = "",
    tenant: str | None = "",
) -> dict[str, Any]:
    """Close sockets of this process; gives the message that has other processes do the same."""
    users = None if user is None else [user]
    _news.append(News(time.monotonic(), users, digest, (code, reason), tenant))
    for keeper in _all_keepers():
        for login in keeper.find(users, digest, tenant):
            login.close(code, reason)
        # The session may have had another key when other sockets of the user were opened.
        if digest and users and (others := keeper.find(users, tenant=tenant)):
            keeper.recheck([login for login in others if login.end is None])
    return _message("end", tenant, user=user, session=digest, code=code, reason=reason)


def recheck(users: Sequence[str] | None, tenant: str | None = None) -> dict[str, Any]:
    """Check sockets of this process; gives the message that has other processes do the same.

    Without a tenant the users of that key are checked in all of them.
    """
    _news.append(News(time.monotonic(), users, tenant=tenant))
    for keeper in _all_keepers():
        if logins := keeper.find(users, tenant=tenant):
            keeper.recheck(list(logins))
    return _message("recheck", tenant, users=users)


def recheck_own_tests(users: Sequence[str] | None, tenant: str | None = None) -> None:
    """Check those sockets of this process whose route tests its user by code of the project."""
    for keeper in _all_keepers():
        logins = keeper.find(users, tenant=tenant)
        asked = [login for login in logins if any(condition.is_own for condition in login.conditions)]
        if asked:
            keeper.recheck(asked)


def obey(message: dict[str, Any]) -> None:
    """Do what another process says."""
    if message.get("sender") == _process():
        return
    if message.get("event") == "recheck":
        recheck(message["users"], message.get("tenant"))
    elif message.get("event") == "end" and (message["user"] or message["session"]):
        tenant = message.get("tenant", None if message["session"] else "")
        end(message["user"], message["session"], message["code"], message["reason"], tenant)


def _all_keepers() -> list[Keeper]:
    with _lock:
        return [keeper for keeper in _keepers.values() if keeper.logins]


def _message(event: str, tenant: str | None, **values: Any) -> dict[str, Any]:
    of_tenant = {"tenant": tenant} if tenant else {}
    return {"type": MESSAGE_TYPE, "sender": _process(), "event": event, **values, **of_tenant}


def _process() -> str:
    return f"{PROCESS}.{os.getpid()}"  # a forked process has its parent's variables


def shared_layer() -> Any:
    """The project's channel layer, if it has one that reaches other processes."""
    try:
        layer = get_channel_layer()
    except InvalidChannelLayerError:  # a system check tells, and so does Channels when the project uses it
        return None
    return None if isinstance(layer, InMemoryChannelLayer) else layer


async def apublish(message: dict[str, Any]) -> None:
    """Send a message to the other processes, or keep it while the layer fails."""
    layer = shared_layer()
    if layer is not None:
        await outbox_of(layer, GROUP, _message("recheck", None, users=None)).send(message)


_publishing: set[asyncio.Task[None]] = set()


def publish(message: dict[str, Any]) -> None:
    """As `apublish`, from sync code; a running loop does it when it comes to it."""
    if shared_layer() is None:
        return
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        async_to_sync(apublish)(message)
    else:
        task = loop.create_task(apublish(message))
        _publishing.add(task)
        task.add_done_callback(_publishing.discard)
