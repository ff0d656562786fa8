"""Compiles the functions of a MessageRouter for one route, and calls them."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter, methodcaller
from typing import Any, get_args

from fastws_compat.connections.states import CONNECTED, SESSION
from fastws_compat.connections.tracebacks import for_log
from fastws_compat.dependencies.annotations import is_subclass, name_of
from fastws_compat.dependencies.codegen import gatherer
from fastws_compat.dependencies.compile import (
    Compiler,
    Key,
    Node,
    is_generator,
    node_of,
    step_of,
)
from fastws_compat.dependencies.model import Plan, Step
from fastws_compat.dependencies.run import Solution, run_step
from fastws_compat.dependencies.signature import (
    Dependency,
    FieldParameter,
    Injected,
    Parameter,
    annotated_parameters,
    return_annotation,
)
from fastws_compat.exception_handlers import from_django, handle, run
from fastws_compat.exceptions import DeclarationError, HTTPException, WebSocketException
from fastws_compat.logger import logger
from fastws_compat.messages.contract import Contract, members_of_reply
from fastws_compat.messages.frames import Call
from fastws_compat.messages.members import MissingTypeError, bases_of, name_of_type, types_of
from fastws_compat.messages.names import base_of
from fastws_compat.messages.router import Handler, MessageRouter
from fastws_compat.messages.sockets import TypedWebSocket
from fastws_compat.messages.users import with_fresh_user
from fastws_compat.params import Declaration, Depends
from fastws_compat.porting import foreign
from fastws_compat.threads.pool import own_thread
from fastws_compat.websockets import WebSocket, WebSocketDisconnect

# Finds one argument of a step in a MessageSolution.
Reader = Callable[[Any], Any]

AUTH = "fastws_compat.auth"


class MessageSolution(Solution):
    """The values of one message while its function runs."""

    # Whether only background tasks and the cleanup of dependencies are left to do.
    is_answered = False

    def __init__(self, handshake: Solution, message: Any) -> None:
        super().__init__(handshake.websocket)
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
    has_generators: bool
    needs_thread: bool


class Dispatch:
    """The functions of a router, by the class of their message, and the plan that has read their fields."""

    def __init__(self, plan: Plan, programs: Mapping[Any, Program], contract: Contract) -> None:
        self.plan = plan
        self._contract = contract
        self._programs = programs

    def steps_of(self, message: Any) -> tuple[Step, ...]:
        """What is called for each message of a class before its function."""
        return self._programs[message].steps[:-1]

    async def call(self, websocket: Any, message: Any) -> None:
        """Call the function for a message, and answer with what it returns or raises."""
        program = self._program_for(websocket, message)
        solution = MessageSolution(websocket._handshake, message)
        try:
            answer = await _run(program, solution)
            if not solution.is_answered:
                await _send_answer(websocket, message, answer)
        except WebSocketDisconnect:
            raise
        except Exception as exc:
            if solution.is_answered:
                _log(websocket, message, exc)
            else:
                await _answer_exception(websocket, message, exc)

    def _program_for(self, websocket: Any, message: Any) -> Program:
        if self._contract.incoming.gives_choices:
            return self._programs[websocket._member]
        if (found := self._programs.get(type(message))) is not None:
            return found
        # A validator may have returned an instance of a subclass; raw text and bytes may be annotated.
        for kind, program in self._programs.items():
            if isinstance(message, base_of(kind)):
                return program
        raise TypeError(
            f"A validator of a message of {websocket.scope[SESSION].extra['route']} returned a value "
            f"of {name_of_type(type(message))}, which is none of its messages: return one of the class."
        )


def _run(program: Program, solution: MessageSolution) -> Coroutine[Any, Any, Any]:
    if program.needs_thread:
        return _in_own_thread(program, solution)
    return _with_cleanup(program, solution) if program.has_generators else _solve(program, solution)


async def _in_own_thread(program: Program, solution: MessageSolution) -> Any:
    with own_thread() as thread:
        solution.thread = thread
        return await _with_cleanup(program, solution)


async def _with_cleanup(program: Program, solution: MessageSolution) -> Any:
    opened = solution.request_generators = solution.function_generators = []
    with solution:
        return await solution.after(_solve(program, solution), opened)


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
    if solution.background_tasks is not None and solution.background_tasks.tasks:
        await _send_answer(solution.websocket, solution.message, values[-1])
        solution.is_answered = True
        await solution.background_tasks()
    return values[-1]


async def _send_answer(websocket: Any, message: Any, answer: Any) -> None:
    if isinstance(message, Call):
        await websocket.reply(message, answer)
    elif answer is not None:
        await websocket.send_message(answer)


async def _answer_exception(websocket: Any, message: Any, exc: Exception) -> None:
    """Answer an exception of a function as if the message were a request; the socket stays open."""
    match meaning := _meaning(exc):
        case HTTPException():
            await _send_error(websocket, message, meaning.status_code, meaning.detail)
        case WebSocketException() | WebSocketDisconnect():
            raise exc
        case _:
            await _answer_failure(websocket, message, exc)


def _meaning(exc: Exception) -> Exception:
    """The library's counterpart of an exception of Django, FastAPI or Starlette; else `exc` itself."""
    return from_django(exc) or foreign.twin(exc) or exc


async def _answer_failure(websocket: Any, message: Any, exc: Exception) -> None:
    """Run the application's handler for an exception; without one, log it and answer with 500."""
    if not (await handle(websocket, exc) or await _catch_all(websocket, exc)):
        _log(websocket, message, exc)
        await _send_error(websocket, message, 500)


async def _send_error(websocket: Any, message: Any, status: int, detail: Any = None) -> None:
    if websocket.application_state is CONNECTED:  # the function has not closed the socket
        await websocket.send_error(status, detail, to=message)


def _log(websocket: Any, message: Any, exc: Exception) -> None:
    session = websocket.scope[SESSION]
    name = name_of_type(type(message))
    logger.error(
        "Exception in WebSocket %s (%s)",
        session.extra["route"],
        name,
        exc_info=for_log(exc),
        extra=session.extra,
    )


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
        members, parameter = _message_of(handler, contract, name_of(endpoint), compiler.path_names)
        _check_answer(handler, members, contract)
        program = _Draft(compiler, plan, holders).compile(handler, parameter)
        for member in members:
            _check_alone(member, programs.setdefault(member, program), program)
    _check_complete(programs, contract, name_of(endpoint))
    return Dispatch(_with_holders(plan, holders), programs, contract)


def _check_alone(member: Any, first: Program, program: Program) -> None:
    if first is not program:
        raise DeclarationError(
            f"{name_of_type(member)} has two functions, {first.name} and {program.name}: leave one out."
        )


def _check_complete(programs: Mapping[Any, Program], contract: Contract, endpoint: str) -> None:
    for member in contract.receives:
        if member not in programs:
            raise DeclarationError(
                f"WebSocket endpoint {endpoint} takes {name_of_type(member)}, but handlers= has no function "
                f"for it: write '@router.on' above one with 'message: {name_of_type(member)}'."
            )


def _message_of(
    handler: Handler, contract: Contract, endpoint: str, path_names: Collection[str]
) -> tuple[tuple[Any, ...], str]:
    """The messages that a function takes, and the parameter that gets them."""
    if is_generator(handler.call):
        raise DeclarationError(
            f"{name_of(handler.call)} of the handlers of {endpoint} is a generator: return one answer, or "
            "send several with websocket.send_message()."
        )
    known = {base_of(member): member for member in contract.receives}
    for parameter, annotation in annotated_parameters(handler.call):
        members = [known.get(base_of(member)) for member in _members(annotation)]
        if members and None not in members and not _is_other(parameter, annotation, path_names):
            return tuple(members), parameter.name
    raise DeclarationError(
        f"{name_of(handler.call)} of the handlers of {endpoint} has no parameter for a message: annotate one "
        f"with a type that the route takes ({', '.join(map(name_of_type, contract.receives))})."
    )


def _is_other(parameter: inspect.Parameter, annotation: Any, path_names: Collection[str]) -> bool:
    """Whether a parameter with a message's type is not the message: it has a marker, or is in the path."""
    markers = (parameter.default, *get_args(annotation))
    return parameter.name in path_names or any(isinstance(one, Depends | Declaration) for one in markers)


def _members(annotation: Any) -> tuple[Any, ...]:
    """The types of an annotation; MissingTypeError if it names one that is not defined."""
    if isinstance(annotation, str):
        raise MissingTypeError(annotation)
    if annotation is inspect.Signature.empty:
        return ()
    return types_of(annotation)


def _check_answer(handler: Handler, members: tuple[Any, ...], contract: Contract) -> None:
    """Raise DeclarationError for a function that returns what may not be its answer."""
    name, answers = name_of(handler.call), _members(return_annotation(handler.call))
    for answer in bases_of(answers) - {type(None), *bases_of(contract.sends)}:
        raise DeclarationError(
            f"{name} returns {name_of_type(answer)}, which is not among the messages that the route sends: "
            "add it to Out."
        )
    for member in filter(_is_call, map(base_of, members)):
        _check_reply(name, answers, member)


def _check_reply(name: str, answers: tuple[Any, ...], call: type[Any]) -> None:
    replies = members_of_reply(call)
    if not answers or not bases_of(answers) <= bases_of(replies):
        names = " or ".join(map(name_of_type, replies))
        raise DeclarationError(f"{name} has to return {names}, the reply of {call.__name__}.")


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
            has_generators=any(step.manager for step in self._steps),
            needs_thread=any(step.kind == "generator" for step in self._steps),
        )

    def _visit(self, node: Node) -> tuple[bool, int]:
        """Whether the plan has solved the dependency, and the slot of its value there or here."""
        call = self._compiler.overrides.get(node.call, node.call)
        key = self._compiler.key_of(node)
        if self._is_solved(node, key, call):
            return True, self._compiler.slots[key]
        if not node.use_cache or key not in self._slots:
            self._slots[key] = self._add(node, call, self._needs(call, node.scopes))
        return False, self._slots[key]

    def _is_solved(self, node: Node, key: Key, call: Callable[..., Any]) -> bool:
        """Whether a message takes the value of the plan."""
        return node.use_cache and key in self._compiler.slots and not is_auth(call)

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
        self._needs_user |= is_auth(call)
        parameters = {each.name: each for each in self._compiler.parameters(call)}
        parameters.pop(message or "", None)
        readers = {name: _value_of(*where) for name, where in needs.items()}
        readers |= self._fields(call, parameters.values())
        readers |= self._injected(call, parameters.values(), tuple(node.scopes))
        if message is not None:
            readers[message] = _MESSAGE
        self._steps.append(step_of(node, call, partial(_gather, readers)))
        return len(self._steps) - 1

    def _fields(self, call: Callable[..., Any], parameters: Iterable[Parameter]) -> dict[str, Reader]:
        """The readers of what a callable takes from the handshake, which a step of the plan keeps for it."""
        declared = [each for each in parameters if isinstance(each, FieldParameter)]
        if not declared:
            return {}
        fields = tuple(self._compiler.field(call, each, embed=False) for each in declared)
        gather = gatherer({}, fields, {}, (), repeats=False)
        slot = len(self._plan.steps) + len(self._holders)
        self._holders.append(step_of(Node(_keep), _keep, gather, fields))
        return {field.name: partial(_field, slot, field.name) for field in fields}

    def _injected(
        self, call: Callable[..., Any], parameters: Iterable[Parameter], scopes: tuple[str, ...]
    ) -> dict[str, Reader]:
        """The readers of what the library itself passes."""
        injected = [each for each in parameters if isinstance(each, Injected)]
        for parameter in injected:
            self._check_socket(call, parameter.annotation)
        socket = _USER_SOCKET if is_auth(call) else _SOCKET
        return {each.name: _injected(each, socket, scopes) for each in injected}

    def _check_socket(self, call: Callable[..., Any], kind: Any) -> None:
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


# How an argument of a step is found for one message


def _gather(readers: Mapping[str, Reader], solution: Solution) -> dict[str, Any]:
    return {name: read(solution) for name, read in readers.items()}


_MESSAGE: Reader = attrgetter("message")
_SOCKET: Reader = attrgetter("websocket")
_USER_SOCKET: Reader = attrgetter("user_socket")


def _value_of(is_solved: bool, slot: int) -> Reader:
    """The value of a step: of the plan, which has solved it, or of the message."""
    return partial(_solved, slot) if is_solved else partial(_own, slot)


def _solved(slot: int, solution: MessageSolution) -> Any:
    return solution.handshake.values[slot]


def _own(slot: int, solution: MessageSolution) -> Any:
    return solution.values[slot]


def _injected(parameter: Injected, socket: Reader, scopes: tuple[str, ...]) -> Reader:
    return socket if parameter.kind == "connection" else methodcaller("injected", parameter.kind, scopes)


def _field(slot: int, name: str, solution: MessageSolution) -> Any:
    return solution.handshake.values[slot][name]
