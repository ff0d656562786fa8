"""Runs a compiled plan on one connection: one loop over a flat list of steps."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any, Protocol

from fastws_compat.background import BackgroundTasks
from fastws_compat.connections.interrupt import current_task
from fastws_compat.connections.states import (
    DISCONNECTED,
    ROUTE_PREFIX,
    SESSION,
    WebSocketDisconnect,
    raised_by,
)
from fastws_compat.dependencies.fields import Errors
from fastws_compat.dependencies.generators import Opened, Teardown, enter, open_generator
from fastws_compat.dependencies.model import FAILED, Plan, Step
from fastws_compat.dependencies.signature import Injection
from fastws_compat.exceptions import EndpointContext, WebSocketRequestValidationError
from fastws_compat.logger import logger
from fastws_compat.porting import foreign
from fastws_compat.responses import Response
from fastws_compat.threads.pool import OwnThread, own_thread, run_in
from fastws_compat.websockets import WebSocket


class Solution(Teardown):
    """The values of one connection while its plan runs, and the generators that they come from.

    It lives as long as the connection, so an attribute stays in the class until there is something to hold.
    """

    values: Sequence[Any] = ()
    errors: Sequence[dict[str, Any]] = ()
    background_tasks: BackgroundTasks | None = None
    response: Response | None = None
    request_generators: Opened
    function_generators: Opened
    # Where sync steps run; None means the pool.
    thread: Executor | None = None

    def __init__(self, websocket: WebSocket) -> None:
        self.websocket = websocket

    def fail(self, errors: Errors) -> None:
        """Record the errors of a step that is therefore not called."""
        self.errors = [*self.errors, *errors]

    def injected(self, kind: Injection, scopes: tuple[str, ...]) -> Any:
        """The object for a parameter that the library fills; made when the first step takes it."""
        match kind:
            case "security_scopes":
                # The security classes are slow to import, and most applications use none.
                from fastws_compat.security.oauth2 import SecurityScopes

                return SecurityScopes(list(scopes))
            case "background_tasks":
                self.background_tasks = self.background_tasks or BackgroundTasks()
                return self.background_tasks
            case "response":  # pragma: no branch - the last kind
                self.response = self.response or self._handshake_response()
                return self.response

    def _handshake_response(self) -> Response:
        """A response whose headers go out with accept(): what dependencies set on it takes effect."""
        response = Response()
        del response.headers["content-length"]
        self.websocket._accept_headers = response.headers
        return response


class Lifecycle(Protocol):
    """The connection around a plan (`connections.lifecycle.Session`)."""

    # The running task, as soon as there is a WebSocket.
    task: asyncio.Task[Any]
    leaving: bool
    disconnect_code: int

    @property
    def extra(self) -> dict[str, Any]: ...

    def absorb_cancellation(self) -> bool: ...

    async def finish(self) -> None: ...


def run_endpoint(plan: Plan, websocket: WebSocket, context: EndpointContext) -> Coroutine[Any, Any, None]:
    """Solve the plan, call the endpoint, and clean up: first the function's scope, then the request's."""
    if plan.needs_thread:
        return _in_own_thread(plan, websocket, context)
    if plan.has_generators:
        return _with_cleanup(plan, websocket, context)
    return _solve_and_call(plan, Solution(websocket), context)


async def _in_own_thread(plan: Plan, websocket: WebSocket, context: EndpointContext) -> None:
    with own_thread() as thread:
        await _with_cleanup(plan, websocket, context, thread)


async def _with_cleanup(
    plan: Plan, websocket: WebSocket, context: EndpointContext, thread: Executor | None = None
) -> None:
    solution = Solution(websocket)
    solution.thread = thread
    opened = solution.request_generators = []
    session: Lifecycle | None = websocket.scope.get(SESSION)
    solution.enter(current_task() if session is None else session.task)
    try:
        try:  # as `Teardown.after` does, which would take another coroutine
            if plan.has_function_generators:
                await _until_function_ends(plan, solution, context)
            else:
                await _solve_and_call(plan, solution, context)
            if opened and (rest := solution.end_all(opened)) is not None:
                await rest
        except BaseException as exc:
            if not await solution.unwind(opened, exc):
                raise
    except BaseException as exc:
        if not solution.leave(exc):
            raise
    else:
        solution.leave()


async def _until_function_ends(plan: Plan, solution: Solution, context: EndpointContext) -> None:
    """Solve the plan and call the endpoint, end the function's generators, and run background tasks."""
    opened = solution.function_generators = []
    await solution.after(_solve_and_call(plan, solution, context), opened)
    if solution.background_tasks is not None:
        solution.end()
        await _run_background_tasks(solution)


async def _solve_and_call(plan: Plan, solution: Solution, context: EndpointContext) -> None:
    """Solve the plan and call the endpoint, in one coroutine, which lasts as long as the connection.

    The monitor cancels it if the endpoint does not notice that the client has left.
    """
    session: Lifecycle | None = solution.websocket.scope.get(SESSION)
    called = False
    try:
        try:
            if plan.steps:
                values = solution.values = []
                for step in plan.steps:
                    arguments = step.gather(solution)
                    # A failed step leaves out only its dependents: the errors of siblings add up (FastAPI).
                    if arguments is None:
                        values.append(FAILED)
                    elif step.plain:
                        values.append(await step.call(**arguments))
                    elif step.plain_generator:
                        generator = step.call(**arguments)
                        try:
                            values.append(await anext(generator))
                        except StopAsyncIteration:
                            raise RuntimeError("generator didn't yield") from None
                        _opened(step, solution).append(generator)
                    else:
                        values.append(await run_step(step, solution, arguments))
            arguments = plan.endpoint.gather(solution)
            if arguments is None or solution.errors:
                raise _validation_error(solution, context)
            if isinstance(solution.thread, OwnThread):
                solution.thread.park()
            called = True
            work = plan.endpoint.call(**arguments)
            del arguments  # not to be held for as long as the endpoint runs
            await work
        except asyncio.CancelledError:
            if session is None or not session.absorb_cancellation():
                raise
            exc = WebSocketDisconnect(session.disconnect_code)
            raise raised_by(solution.websocket, exc) from None
        finally:
            if session is not None:
                session.leaving = True
    except Exception as exc:
        if called and solution.background_tasks is not None and foreign.means(exc, WebSocketDisconnect):
            await solution.background_tasks()
            solution.background_tasks = None
        raise
    if solution.background_tasks is not None and not plan.has_function_generators:
        await _run_background_tasks(solution)


async def run_step(step: Step, solution: Solution, arguments: dict[str, Any]) -> Any:
    """The value of a step that cannot simply be awaited."""
    if step.plain_generator:
        return await open_generator(_opened(step, solution), step.call(**arguments))
    if step.manager is not None:
        where = (solution.thread,) if step.kind == "generator" else ()
        return await enter(_opened(step, solution), step.manager(*where, **arguments))
    if step.concurrency is None:
        return await _call_step(step, solution, arguments)
    async with step.concurrency.semaphore():
        return await _call_step(step, solution, arguments)


def _opened(step: Step, solution: Solution) -> Opened:
    """The generators that a step's own ends with."""
    return solution.function_generators if step.ends_with_function else solution.request_generators


async def _call_step(step: Step, solution: Solution, arguments: dict[str, Any]) -> Any:
    if step.kind == "coroutine":
        return await step.call(**arguments)
    return await run_in(solution.thread, partial(step.call, **arguments))


def _validation_error(solution: Solution, context: EndpointContext) -> WebSocketRequestValidationError:
    """The exception for a handshake that does not validate; leaves one line in the log."""
    scope = solution.websocket.scope
    mount = scope.get("root_path", "").rstrip("/")
    path = scope.get(ROUTE_PREFIX, "") + context["path"]
    context = {**context, "path": f"WS {mount}{context['path']}"}
    session: Lifecycle | None = scope.get(SESSION)
    extra = None if session is None else session.extra
    errors = ", ".join(dict.fromkeys(map(_summary, solution.errors)))
    logger.warning("WebSocket %s: the handshake does not fit its parameters: %s", path, errors, extra=extra)
    return WebSocketRequestValidationError(solution.errors, endpoint_ctx=context)


def _summary(error: dict[str, Any]) -> str:
    """The parameter and the type of an error, without any value or name that the client chose."""
    source, *names = error["loc"]
    known = names[:1] if error["type"] != "extra_forbidden" else []
    return f"{'.'.join(map(str, [source, *known]))} ({error['type']})"


async def _run_background_tasks(solution: Solution) -> None:
    """Run the background tasks after the close frame: the client does not wait for them."""
    if solution.background_tasks is not None and solution.background_tasks.tasks:
        session: Lifecycle | None = solution.websocket.scope.get(SESSION)
        if session is not None:
            await session.finish()
            solution.websocket.application_state = DISCONNECTED
        await solution.background_tasks()
