"""The logins with open sockets in this process, by user and by session; what ends or rechecks them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any

from fastws_compat import conf
from fastws_compat.connections import census
from fastws_compat.connections.pipe import Socket
from fastws_compat.connections.states import IDENTIFIED_AT, LOGIN, SESSION
from fastws_compat.layers.subscription import Subscription
from fastws_compat.logger import in_words, logger
from fastws_compat.logins.gate import Connection, Login, call_in_loop
from fastws_compat.logins.judge import BATCH, LOGGED_OUT, Claim, judge, run_in
from fastws_compat.logins.lookups import look_up
from fastws_compat.logins.remote import GROUP, login_message, sender_id, shared_layer
from fastws_compat.logins.tenants import Location, activated

# How many recent changes are kept. A login whose handshake took longer than these is checked.
MAX_CHANGES = 1000

_lock = threading.RLock()
# kept, ended, failed (logins that were checked), queries; and how long the checks took.
checks: Counter[str] = Counter()
check_times = census.Histogram(census.HANDSHAKES)
_registries: dict[asyncio.AbstractEventLoop, LoginRegistry] = {}
_recent_changes: deque[RecentChange] = deque(maxlen=MAX_CHANGES)


class LoginRegistry:
    """The logins of one event loop; it exists as long as there is one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.logins: set[Login] = set()
        self._loop = loop
        self._by_user: dict[str, set[Login]] = {}
        self._by_session: dict[str, set[Login]] = {}
        # The tasks that run as long as there are logins.
        self.services: list[asyncio.Task[None]] = []
        self._checks: set[asyncio.Task[None]] = set()

    def add(self, login: Login) -> None:
        with _lock:
            self.logins.add(login)
            self._by_user.setdefault(login.user_id, set()).add(login)
            if login.digest:
                self._by_session.setdefault(login.digest, set()).add(login)
        if not self.services:
            self._start()

    async def remove(self, login: Login) -> None:
        with _lock:
            self.logins.discard(login)
            _discard(self._by_user, login.user_id, login)
            if login.digest:
                _discard(self._by_session, login.digest, login)
            if not self.logins:
                self._stop()
                _registries.pop(self._loop, None)
        await login.wait_closed()

    def find(
        self, users: Iterable[str] | None = None, digest: str | None = None, tenant: str | None = None
    ) -> set[Login]:
        """The logins of these users, in this session, of this tenant; None stands for any."""
        with _lock:
            found = set(self.logins if digest is None else self._by_session.get(digest, ()))
            if users is not None:
                found &= set[Login]().union(*(self._by_user.get(user, ()) for user in users))
        return found if tenant is None else {login for login in found if login.location.tenant == tenant}

    def _start(self) -> None:
        seconds, layer = conf.get("REVALIDATE_SECONDS"), shared_layer()
        if seconds:
            self.revalidate_every(seconds)
        if layer is not None:
            self._serve(Subscription(layer, GROUP, apply_remote, self._recheck_all).run())

    def _serve(self, service: Coroutine[Any, Any, None]) -> None:
        # Not in the context of the first connection, because it serves those of all tenants.
        self.services.append(self._loop.create_task(service, context=Context()))

    def _stop(self) -> None:
        for service in self.services:
            service.cancel()
        self.services.clear()

    def revalidate_every(self, seconds: float) -> None:
        """Check all logins periodically."""
        self._serve(self._revalidate(seconds))

    async def _revalidate(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self.check(self.find())

    def _recheck_all(self) -> None:
        self.recheck(self.find())

    def recheck(self, logins: Iterable[Login]) -> None:
        """Check the logins soon, from any thread; until then nothing that their clients send is handled."""
        held = list(logins)
        for login in held:
            login.hold()
        call_in_loop(self._loop, Context(), lambda: self._begin_check(held))

    def _begin_check(self, held: Sequence[Login]) -> None:
        task = self._loop.create_task(self._check_held(held))
        self._checks.add(task)
        task.add_done_callback(self._checks.discard)

    async def _check_held(self, held: Sequence[Login]) -> None:
        try:
            await self.check(held)
        finally:
            for login in held:
                login.release()

    async def check(self, logins: Iterable[Login]) -> None:
        """Judge the logins and end those that are no longer valid; none if the database fails."""
        by_location: dict[Location, list[Login]] = defaultdict(list)
        for login in logins:
            by_location[login.location].append(login)
        for location, neighbours in by_location.items():
            for start in range(0, len(neighbours), BATCH):
                if not await self._check_batch(location, neighbours[start : start + BATCH]):
                    break

    async def _check_batch(self, location: Location, batch: Sequence[Login]) -> bool:
        """Judge logins of one location, in the context of one of them; False if the database fails."""
        logins = [login for login in batch if login in self.logins]  # others have ended meanwhile
        if not logins:
            return True
        claims = [login.claim for login in logins]
        begun = time.monotonic()
        try:
            verdicts = await look_up(_judge, location, claims, logins[0].context)
        except Exception as exc:
            logger.warning("Open WebSockets could not be revalidated (%s)", in_words(exc))
            checks["failed"] += len(logins)
            return False
        finally:
            check_times.add(time.monotonic() - begun)
        checks["ended"] += sum(code is not None for code in verdicts)
        checks["kept"] += sum(code is None for code in verdicts)
        for login, code in zip(logins, verdicts, strict=True):
            if code is not None:
                login.end(code, "")
        return True


def _judge(location: Location, claims: Sequence[Claim], context: Context) -> list[int | None]:
    with activated(location), _counting_queries():
        return run_in(context, judge, claims)


@contextmanager
def _counting_queries() -> Iterator[None]:
    """Count the queries of the block, if anything reads the metrics."""
    from django.db import connections

    with ExitStack() as stack:
        for connection in connections.all(initialized_only=True) if census.is_on else ():
            stack.enter_context(connection.execute_wrapper(_count_query))
        yield


def _count_query(execute: Any, *arguments: Any) -> Any:
    checks["queries"] += 1
    return execute(*arguments)


def _discard(index: dict[str, set[Login]], key: str, login: Login) -> None:
    logins = index.get(key, set())
    logins.discard(login)
    if not logins:
        index.pop(key, None)


def registries() -> list[LoginRegistry]:
    """The registries of this process: one for each event loop that has logins."""
    with _lock:
        return list(_registries.values())


def enter(
    websocket: Socket,
    user_id: str,
    session_key: str | None,
    session_name: str | None = None,
    location: Location = Location(),
) -> None:
    """Close the socket when this login ends. A socket has one login; outside of our applications, none."""
    connection: Connection | None = websocket.scope.get(SESSION)
    if LOGIN in websocket.scope or connection is None:
        return
    login = Login(websocket, connection, user_id, session_key, session_name, location)
    websocket.scope[LOGIN] = login
    with _lock:
        registry = _registries.get(login.loop)
        if registry is None:
            registry = _registries[login.loop] = LoginRegistry(login.loop)
        registry.add(login)
    connection.at_end(partial(registry.remove, login))
    _catch_up(registry, login, websocket.scope.get(IDENTIFIED_AT, connection.begun))


# What happened while a socket was being opened


@dataclass(frozen=True, slots=True)
class RecentChange:
    """A change that ended or may have ended logins; None stands for any user, session or tenant."""

    at: float
    users: Sequence[str] | None
    digest: str | None = None
    end: tuple[int, str] | None = None
    tenant: str | None = None

    def concerns(self, login: Login) -> bool:
        is_user = self.users is None or login.user_id in self.users
        is_tenant = self.tenant in (None, login.location.tenant)
        return is_user and is_tenant and self.digest in (None, login.digest)


def _catch_up(registry: LoginRegistry, login: Login, since: float) -> None:
    """Apply the changes since the session was read: the login could not be found before."""
    if not _recent_changes or _recent_changes[-1].at < since:
        return
    missed = list(takewhile(lambda change: change.at >= since, reversed(list(_recent_changes))))
    changes = [change for change in missed if change.concerns(login)]
    for change in changes:
        if change.end is not None:
            login.end(*change.end)
    if login.ended is None and (changes or len(missed) == MAX_CHANGES):
        registry.recheck([login])


# Changes, here and in other processes


def end_logins(
    user: str | None,
    digest: str | None = None,
    code: int = LOGGED_OUT,
    reason: str = "",
    tenant: str | None = "",
) -> dict[str, Any]:
    """Close sockets of this process. The result is the message that closes them in other processes."""
    users = None if user is None else [user]
    _recent_changes.append(RecentChange(time.monotonic(), users, digest, (code, reason), tenant))
    for registry in registries():
        for login in registry.find(users, digest, tenant):
            login.end(code, reason)
        # The session may have had another key when other sockets of the user were opened.
        if digest and users and (others := registry.find(users, tenant=tenant)):
            registry.recheck(login for login in others if login.ended is None)
    return login_message("end", tenant, user=user, session=digest, code=code, reason=reason)


def recheck_users(users: Sequence[str] | None, tenant: str | None = None) -> dict[str, Any]:
    """Check sockets of this process. The result is the message that has them checked in other processes.

    Without a tenant, users with these keys are checked in all tenants.
    """
    _recent_changes.append(RecentChange(time.monotonic(), users, tenant=tenant))
    for registry in registries():
        if logins := registry.find(users, tenant=tenant):
            registry.recheck(logins)
    return login_message("recheck", tenant, users=users)


def recheck_own_tests(users: Sequence[str] | None, tenant: str | None = None) -> None:
    """Check the sockets of this process whose route has a test that the project wrote."""
    for registry in registries():
        logins = registry.find(users, tenant=tenant)
        tested = [login for login in logins if any(condition.is_own for condition in login.conditions)]
        if tested:
            registry.recheck(tested)


def apply_remote(message: dict[str, Any]) -> None:
    """Apply a change that another process has published."""
    if message.get("sender") == sender_id():
        return
    if message.get("event") == "recheck":
        recheck_users(message["users"], message.get("tenant"))
    elif message.get("event") == "end" and (message["user"] or message["session"]):
        tenant = message.get("tenant", None if message["session"] else "")
        end_logins(message["user"], message["session"], message["code"], message["reason"], tenant)
