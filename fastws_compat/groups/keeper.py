"""Keeps the store up to date with the sockets of this process that are present in groups."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import Context
from dataclasses import replace
from itertools import islice
from uuid import uuid4

from fastws_compat import conf
from fastws_compat.groups.roster import Diff
from fastws_compat.groups.seats import BATCH, Seat, Seats, Tick
from fastws_compat.groups.upkeep import resolve
from fastws_compat.layers.client import with_timeout
from fastws_compat.logger import in_words, logger

# Seconds between two attempts while the store fails.
RETRY_INTERVAL = 1.0
# The number of renewals per duration of the lease.
TICKS_PER_LEASE = 4
# Seconds after which all sockets are registered again, so that those open for days never expire in Redis.
RENEWAL_INTERVAL = 6 * 3600
# Seconds for which sockets are collected that make no difference to anybody yet.
COLLECTING = 0.5
# The maximum number of concurrent calls to the store.
MAX_CONCURRENT_CALLS = 16


class Keeper:
    """The lease of one event loop in one store, and the sockets that are registered under it.

    Joins and leaves of a group are sent in batches of up to `BATCH` per call. `tell` is called with each
    change that a call of this process has made.
    """

    def __init__(self, seats: Seats, tell: Callable[[str, Diff], None]) -> None:
        self.process = uuid4().hex
        self.task: asyncio.Task[None] | None = None
        self._seats = seats
        self._tell = tell
        # By group and id.
        self._wanted: dict[str, dict[str, Seat]] = {}
        # The ids whose state in the store may be out of date.
        self._stale: dict[str, dict[str, None]] = {}
        self._waiters: dict[str, asyncio.Future[None]] = {}
        # The groups whose presence is watched here, so that dead processes are looked for without any seat.
        self._watched: set[str] = set()
        # By group, the ids that are marked as stale later, all at once.
        self._collected: dict[str, list[str]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._token: str | None = None
        self._tick_at = 0.0
        self._renew_at = 0.0
        self._is_failing = False
        self._is_stopping = False

    def enter(self, group: str, seat: Seat, *, is_urgent: bool = True) -> None:
        """Register a socket, or update its info; one that is not urgent soon, together with others."""
        seats = self._wanted.setdefault(group, {})
        seats.pop(seat.socket, None)
        seats[seat.socket] = seat  # the newest info comes last, also if all are registered again
        if is_urgent:
            self._mark_stale(group, seat.socket)
            return
        self._collected.setdefault(group, []).append(seat.socket)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(COLLECTING, self._enter_collected)

    def _enter_collected(self) -> None:
        self._timer = None
        for group in list(self._collected):
            self._enter_collected_of(group)

    def _enter_collected_of(self, group: str) -> None:
        for socket in self._collected.pop(group, ()):
            self._mark_stale(group, socket)

    def exit(self, group: str, socket: str, linger: float = 0) -> None:
        """Remove a socket after a delay in which its user may come back."""
        if linger:
            asyncio.get_running_loop().call_later(linger, self._exit, group, socket)
        else:
            self._exit(group, socket)

    def _exit(self, group: str, socket: str) -> None:
        if self._is_stopping or self._wanted.get(group, {}).pop(socket, None) is None:
            return
        if not self._wanted[group]:
            del self._wanted[group]
        self._enter_collected_of(group)  # first: it may be the same user, who has not left
        self._mark_stale(group, socket)

    def watch(self, group: str) -> None:
        """Look for dead processes for as long as somebody sees the list of the group."""
        self._watched.add(group)
        self._start()

    def stop_watching(self, group: str) -> None:
        self._watched.discard(group)
        self._wake.set()

    async def wait_settled(self, group: str) -> None:
        """Wait until the store knows the sockets of the group; return at once while it fails."""
        waiter = self._waiters.get(group)
        if waiter is not None and not self._is_failing:
            await asyncio.shield(waiter)

    @property
    def groups(self) -> Iterable[str]:
        """The groups in which a socket of this process is present."""
        return self._wanted

    async def release(self, seconds: float) -> None:
        """Stop, and end the lease in `seconds`. Users can reconnect to other processes until then."""
        self._is_stopping = True
        if self.task is not None:
            self.task.cancel()
            resolve(self._waiters, list(self._waiters))  # a task that has not begun ends without doing so
            with suppress(Exception):
                await with_timeout(self._seats.release(self.process, seconds))

    def _mark_stale(self, group: str, socket: str) -> None:
        if self._is_stopping:
            return
        self._stale.setdefault(group, {})[socket] = None
        if group not in self._waiters:
            self._waiters[group] = asyncio.get_running_loop().create_future()
        self._wake.set()
        self._start()

    def _start(self) -> None:
        if self.task is None and not self._is_stopping:
            # In an empty context: that of the first connection would be shared with all others.
            self.task = asyncio.get_running_loop().create_task(self._keep(), context=Context())

    async def _keep(self) -> None:
        try:
            while self._wanted or self._stale or self._watched:
                await self._wait_for_work()
                try:
                    await self._settle_all()
                except Exception as exc:
                    self._failed(exc)
                else:
                    self._succeeded()
        except asyncio.CancelledError:
            if not self._is_stopping:
                self._seats.abandon(self.process)
            raise
        finally:
            self.task = None
            resolve(self._waiters, list(self._waiters))

    async def _wait_for_work(self) -> None:
        """Wait for a change, the next retry or the time to renew the lease."""
        if self._is_failing:
            await asyncio.sleep(RETRY_INTERVAL)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._tick_at):
                await self._wake.wait()

    async def _settle_all(self) -> None:
        self._wake.clear()
        if asyncio.get_running_loop().time() >= self._tick_at:
            await self._tick()
        while groups := list(islice(self._stale, MAX_CONCURRENT_CALLS)):
            failures = await asyncio.gather(*map(self._settle, groups), return_exceptions=True)
            for failure in failures:
                if failure is not None:
                    raise failure
            resolve(self._waiters, [group for group in groups if group not in self._stale])

    async def _settle(self, group: str) -> None:
        """Register and remove up to `BATCH` sockets of a group."""
        batch = list(islice(self._stale[group], BATCH))
        wanted = self._wanted.get(group, {})
        entering = [wanted[id] for id in batch if id in wanted]
        ending = [id for id in batch if id not in wanted]
        epoch = ""
        if entering:
            diff = await with_timeout(self._seats.enter(group, self.process, entering))
            epoch = diff.epoch
            again = frozenset(seat.key for seat in entering if seat.epoch not in ("", epoch))
            self._told(group, replace(diff, again=again))
        if ending:
            self._told(group, await with_timeout(self._seats.leave(group, self.process, ending)))
        self._strike(group, entering, ending, epoch)

    def _strike(self, group: str, entered: list[Seat], left: list[str], epoch: str) -> None:
        """Mark these as stored, unless they have changed in the meantime."""
        wanted, stale = self._wanted.get(group, {}), self._stale[group]
        for seat in entered:
            if wanted.get(seat.socket) is seat:
                wanted[seat.socket] = replace(seat, renewed=False, epoch=epoch)
                stale.pop(seat.socket, None)
        for id in left:
            if id not in wanted:
                stale.pop(id, None)
        if not stale:
            del self._stale[group]

    def _told(self, group: str, diff: Diff) -> None:
        if diff:
            self._tell(group, diff)

    async def _tick(self) -> None:
        """Renew the lease, register everything again if the store has lost it, and remove dead processes."""
        now = asyncio.get_running_loop().time()
        lease = conf.get("PRESENCE_TTL")
        tick: Tick = await with_timeout(self._seats.tick(self.process, lease))
        self._tick_at = now + lease / TICKS_PER_LEASE
        if tick.token != self._token or now >= self._renew_at:
            self._token, self._renew_at = tick.token, now + RENEWAL_INTERVAL
            self._register_again()
        for process in tick.dead:
            await self._reap(process)

    def _register_again(self) -> None:
        for group, seats in self._wanted.items():
            ending = self._stale.get(group, {}).keys() - seats.keys()
            self._stale[group] = dict.fromkeys((*ending, *seats))

    async def _reap(self, process: str) -> None:
        """Remove the sockets of a dead process. Any process may do so, or continue where another stopped."""
        for group in await with_timeout(self._seats.groups_of(process)):
            more = True
            while more:
                diff, more = await with_timeout(self._seats.reap(group, process))
                self._told(group, diff)

    def _failed(self, exc: Exception) -> None:
        if not self._is_failing:
            logger.error("Presence cannot be stored (%s); it is tried again", in_words(exc))
        self._is_failing = True
        resolve(self._waiters, list(self._waiters))
        self._wake.set()

    def _succeeded(self) -> None:
        if self._is_failing:
            logger.warning("Presence is stored again")
        self._is_failing = False
