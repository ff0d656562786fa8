"""Compiles the functions of a MessageRouter for one route, and calls them."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, get_origin

from typing_extensions import is_typeddict

from fastws_compat import conf
from fastws_compat.connections.interrupt import Cleanup
from fastws_compat.connections.states import SESSION
from fastws_compat.connections.tracebacks import for_log
from fastws_compat.dependencies.annotations import is_subclass, name_of
from fastws_compat.dependencies.codegen import gatherer
from fastws_compat.dependencies.compile import Compiler, Node, manager_of, node_of
from fastws_compat.dependencies.model import Plan, Solution, Step
from fastws_compat.dependencies.run import run_step
from fastws_compat.dependencies.signature import (
    Dependency,
    FieldParameter,
    Injected,
    annotated_parameters,
    kind_of,
    return_annotation,
)
from fastws_compat.exception_handlers import from_django, handle, run
from fastws_compat.exceptions import DeclarationError, HTTPException, WebSocketException
from fastws_compat.logger import logger
from fastws_compat.messages.contract import Contract, members_of_reply
from fastws_compat.messages.frames import Call
from fastws_compat.messages.members import MissingTypeError, base_of, members_of, name_of_type
from fastws_compat.messages.router import Handler, MessageRouter
from fastws_compat.messages.sockets import TypedWebSocket
from fastws_compat.messages.users import with_fresh_user
from fastws_compat.params import Depends
from fastws_compat.porting import foreign
from fastws_compat.threads.pool import own_thread
from fastws_compat.websockets import WebSocket, WebSocketDisconnect

AUTH = "fastws_compat.auth"


class MessageSolution(Solution):
    """The values of one message while its function runs."""

    __slots__ = ("handshake", "message", "user_socket")

    def __init__(self, handshake: Solution, message: Any, stack: AsyncExitStack) -> None:
        super().__init__(handshake.websocket, stack, stack)
        self.handshake = handshake
        self.message = message
        # The connection with a user that was loaded for this message.
        self.user_socket: WebSocket = handshake.websocket


@dataclass(frozen=True, slots=True)
class Program:
    """What happens for one kind of message: the steps of its dependencies, then its function."""

    name: str
    steps: tuple[Step, ...]
    needs_user: bool
    needs_thread: bool


class Dispatch:
    """The functions of a router, by the class of their message, and the plan that has read their fields."""

    def __init__(self, plan: Plan, programs: Mapping[Any, Program], contract: Contract) -> None:
        self.plan = plan
        self._contract = contract
        self._programs = programs

    async def call(self, websocket: Any, message: Any) -> None:
        """Call the function for a message, and answer with what it returns or raises."""
        program = self._programs.get(type(message)) or self._programs[self._member_of(message)]
        try:
            answer = await _run(program, websocket._handshake, message)
            await _send_answer(websocket, message, answer)
        except (WebSocketDisconnect, WebSocketException):
            raise
        except Exception as exc:
            await _answer_exception(websocket, message, exc)

    def _member_of(self, message: Any) -> Any:
        """The member that a value belongs to whose class is not one itself, such as a TypedDict."""
        if isinstance(message, dict) and (tag := message.get(self._contract.tag)) is not None:
            return self._contract.received_by_tag[tag]
        return next(kind for kind in self._programs if _is_instance(message, kind))


def _is_instance(value: Any, member: Any) -> bool:
    kind = base_of(member)
    kind = get_origin(kind) or kind
    return isinstance(value, dict if is_typeddict(kind) else kind)


async def _run(program: Program, handshake: Solution, message: Any) -> Any:
    cleanup, timeout = Cleanup(), conf.get("CLEANUP_TIMEOUT")
    try:
        async with AsyncExitStack() as stack:
            solution = MessageSolution(handshake, message, stack)
            solution.thread = stack.enter_context(own_thread()) if program.needs_thread else None
            try:
                return await _solve(program, solution)
            finally:
                cleanup.begin(timeout)
    except asyncio.CancelledError as exc:
        if not cleanup.absorb():
            raise
        raise TimeoutError(f"The cleanup of a dependency took longer than {timeout} s") from exc
    finally:
        cleanup.end()


async def _solve(program: Program, solution: MessageSolution) -> Any:
    if program.needs_user:
        solution.user_socket = await with_fresh_user(solution.websocket)
    values: list[Any] = []
    solution.values = values
    for step in program.steps:
        arguments = step.gather(solution)
        assert arguments is not None
        values.append(
            await step.call(**arguments) if step.plain else await run_step(step, solution, arguments)
        )
    if solution.background_tasks is not None:
        await solution.background_tasks()
    return values[-1]


async def _send_answer(websocket: Any, message: Any, answer: Any) -> None:
    if isinstance(message, Call):
        await websocket.reply(message, answer)
    elif answer is not None:
        await websocket.send_message(answer)


async def _answer_exception(websocket: Any, message: Any, exc: Exception) -> None:
    """An exception of a function means what it would for a request: the socket lives."""
    twin = from_django(exc) or foreign.twin(exc) or exc
    if isinstance(twin, HTTPException):
        await websocket.send_error(twin.status_code, twin.detail, to=message)
    elif isinstance(twin, WebSocketException | WebSocketDisconnect):
        raise exc
    elif not await handle(websocket, exc) and not await _catch_all(websocket, exc):
        session = websocket.scope.get(SESSION)
        extra = None if session is None else session.extra
        route = getattr(websocket.scope.get("route"), "path", None)
        name = name_of_type(type(message))
        logger.error("Exception in WebSocket %s (%s)", route, name, exc_info=for_log(exc), extra=extra)
        await websocket.send_error(500, to=message)


async def _catch_all(websocket: Any, exc: Exception) -> bool:
    """Run the application's handler for all exceptions; False if there is none."""
    app = websocket.scope.get("app")
    handlers = getattr(app, "exception_handlers", {})
    key = next((key for key in getattr(app, "CATCH_ALL", ()) if key in handlers), None)
    if key is None:
        return False
    await run(handlers[key], websocket, exc)
    return True


# Compiling


def compile_dispatch(
    endpoint: Callable[..., Any],
    path: str,
    dependencies: Sequence[Depends],
    overrides: Mapping[Any, Any] | None,
    router: MessageRouter,
    contract: Contract,
) -> Dispatch:
    """The functions of `router` for a route.

    Raises DeclarationError unless each message that the route takes has one function, which returns what the
    route may answer.
    """
    compiler = Compiler(path, overrides or {})
    plan = compiler.compile(endpoint, dependencies)
    holders: list[Step] = []
    programs: dict[Any, Program] = {}
    for handler in router.handlers:
        draft = _Draft(compiler, plan, holders)
        members, parameter = _message_of(handler, contract, name_of(endpoint))
        _check_answer(handler, members, contract)
        program = draft.compile(handler, parameter)
        for member in members:
            if member in programs:
                raise DeclarationError(
                    f"{name_of_type(member)} has two functions, {programs[member].name} and {program.name} "
                    f"(endpoint {name_of(endpoint)}): leave one out."
                )
            programs[member] = program
    _check_complete(programs, contract, name_of(endpoint))
    return Dispatch(_with_holders(plan, holders), programs, contract)


def _check_complete(programs: Mapping[Any, Program], contract: Contract, endpoint: str) -> None:
    for member in contract.receives:
        if member not in programs:
            raise DeclarationError(
                f"WebSocket endpoint {endpoint} takes {name_of_type(member)}, but handlers= has no function "
                f"for it: write '@router.on' above one with 'message: {name_of_type(member)}'."
            )


def _message_of(handler: Handler, contract: Contract, endpoint: str) -> tuple[tuple[Any, ...], str]:
    """The messages that a function takes, and the parameter that gets them."""
    name = name_of(handler.call)
    for parameter, annotation in annotated_parameters(handler.call):
        if isinstance(annotation, str):
            raise MissingTypeError(annotation)
        members = () if annotation is parameter.empty else _members(annotation)
        if members and all(member in contract.receives for member in members):
            return members, parameter.name
    raise DeclarationError(
        f"{name} of the handlers of {endpoint} has no parameter for a message: annotate one with a type that "
        f"the route takes ({', '.join(map(name_of_type, contract.receives)) or 'none'})."
    )


def _members(annotation: Any) -> tuple[Any, ...]:
    try:
        return members_of(annotation, "receives", "", {}).types
    except DeclarationError:
        return ()


def _check_answer(handler: Handler, members: tuple[Any, ...], contract: Contract) -> None:
    annotation = return_annotation(handler.call)
    if isinstance(annotation, str):
        raise MissingTypeError(annotation)
    answers = () if annotation is inspect.Signature.empty else _members(annotation)
    for answer in answers:
        if answer not in (type(None), *contract.sends):
            raise DeclarationError(
                f"{name_of(handler.call)} returns {name_of_type(answer)}, which is not among the messages "
                "that the route sends: add it to Out."
            )
    for member in filter(_is_call, members):
        replies = members_of_reply(member)
        if not answers or any(answer not in replies for answer in answers):
            raise DeclarationError(
                f"{name_of(handler.call)} has to return {' or '.join(map(name_of_type, replies))}, the reply "
                f"of {name_of_type(member)}."
            )


def _is_call(kind: Any) -> bool:
    return is_subclass(kind, Call)


def _with_holders(plan: Plan, holders: Sequence[Step]) -> Plan:
    """The plan, which also reads the fields of functions, and leaves its values with the socket."""
    inner = plan.endpoint.gather

    def gather(solution: Solution) -> dict[str, Any] | None:
        solution.websocket._handshake = solution  # type: ignore[attr-defined]
        return inner(solution)

    endpoint = dataclasses.replace(plan.endpoint, gather=gather)
    return dataclasses.replace(plan, steps=(*plan.steps, *holders), endpoint=endpoint)


class _Draft:
    """Compiles one function: like `Compiler`, but what the plan has solved is not called again."""

    def __init__(self, compiler: Compiler, plan: Plan, holders: list[Step]) -> None:
        self._compiler = compiler
        self._plan = plan
        # Steps of the plan that read the fields of a callable, and keep them for its messages.
        self._holders = holders
        self._steps: list[Step] = []
        self._slots: dict[Any, int] = {}
        self._needs_user = False

    def compile(self, handler: Handler, message: str) -> Program:
        for depends in handler.dependencies:
            self._visit(node_of(depends, []))
        root = Node(handler.call, lifetime="function")
        self._add(root, handler.call, self._needs(handler.call, root.scopes), message)
        return Program(
            name_of(handler.call),
            tuple(self._steps),
            self._needs_user,
            needs_thread=any(step.kind == "generator" for step in self._steps),
        )

    def _visit(self, node: Node) -> tuple[bool, int]:
        """Whether the plan has solved the dependency, and the slot of its value there or here."""
        call = self._compiler.overrides.get(node.call, node.call)
        key = self._compiler.key_of(node)
        if node.use_cache and key in self._compiler.slots and not is_auth(call):
            return True, self._compiler.slots[key]
        if not node.use_cache or key not in self._slots:
            self._slots[key] = self._add(node, call, self._needs(call, node.scopes))
        return False, self._slots[key]

    def _needs(self, call: Callable[..., Any], scopes: list[str]) -> dict[str, tuple[bool, int]]:
        return {
            parameter.name: self._visit(node_of(parameter.depends, scopes))
            for parameter in self._compiler.parameters(call)
            if isinstance(parameter, Dependency)
        }

    def _add(
        self,
        node: Node,
        call: Callable[..., Any],
        needs: Mapping[str, tuple[bool, int]],
        message: str | None = None,
    ) -> int:
        """Append the step of a callable; its slot."""
        parameters = [each for each in self._compiler.parameters(call) if each.name != message]
        injected = [each for each in parameters if isinstance(each, Injected)]
        self._check_sockets(call, injected)
        self._needs_user |= is_auth(call)
        fields = [each for each in parameters if isinstance(each, FieldParameter)]
        holder = self._hold(call, fields) if fields else None
        kind = kind_of(call)
        step = Step(
            call,
            kind,
            fields=(),
            gather=_gatherer(holder, needs, injected, tuple(node.scopes), is_auth(call), message),
            manager=manager_of(call, kind),
            ends_with_function=True,
            concurrency=node.concurrency,
            plain=kind == "coroutine" and node.concurrency is None,
        )
        self._steps.append(step)
        return len(self._steps) - 1

    def _hold(self, call: Callable[..., Any], parameters: Sequence[FieldParameter]) -> int:
        """The slot of the plan in which the fields of a callable will be."""
        fields = tuple(self._compiler.field(call, each, embed=False) for each in parameters)
        gather = gatherer({}, fields, {}, (), repeats=False)
        self._holders.append(Step(_keep, "coroutine", fields, gather, None, False, None, plain=True))
        return len(self._plan.steps) + len(self._holders) - 1

    def _check_sockets(self, call: Callable[..., Any], injected: Sequence[Injected]) -> None:
        for parameter in injected:
            kind = parameter.annotation
            if is_subclass(kind, TypedWebSocket) and not is_subclass(self._plan.socket, kind):
                raise DeclarationError(
                    f"{name_of(call)} takes a {kind.__name__}, but the endpoint a "
                    f"{name_of_type(self._plan.socket)}: name the same messages, or take a plain WebSocket."
                )


async def _keep(**values: Any) -> dict[str, Any]:
    return values


def is_auth(call: Any) -> bool:
    """Whether a dependency is one of `fastws_compat.auth`, which load the user afresh for each message."""
    return getattr(call, "__module__", None) == AUTH


def _gatherer(
    holder: int | None,
    needs: Mapping[str, tuple[bool, int]],
    injected: Sequence[Injected],
    scopes: tuple[str, ...],
    is_auth: bool,
    message: str | None,
) -> Callable[[Any], dict[str, Any]]:
    """The function that collects the arguments of a step for one message."""
    solved = [(name, slot) for name, (is_solved, slot) in needs.items() if is_solved]
    own = [(name, slot) for name, (is_solved, slot) in needs.items() if not is_solved]
    sockets = [each.name for each in injected if each.kind == "connection"]
    others = [(each.name, each.kind) for each in injected if each.kind != "connection"]

    def gather(solution: MessageSolution) -> dict[str, Any]:
        handshake = solution.handshake.values
        arguments: dict[str, Any] = {} if holder is None else {**handshake[holder]}
        arguments |= {name: handshake[slot] for name, slot in solved}
        arguments |= {name: solution.values[slot] for name, slot in own}
        arguments |= dict.fromkeys(sockets, solution.user_socket if is_auth else solution.websocket)
        arguments |= {name: solution.injected(kind, scopes) for name, kind in others}
        if message is not None:
            arguments[message] = solution.message
        return arguments

    return gather
