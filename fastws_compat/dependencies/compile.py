"""Compiles an endpoint and everything it depends on into a plan, in FastAPI's order."""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic.errors import PydanticSchemaGenerationError

from fastws_compat.concurrency import Concurrency
from fastws_compat.dependencies.annotations import is_subclass, loaded, model_of, name_of
from fastws_compat.dependencies.codegen import gatherer
from fastws_compat.dependencies.fields import AnyField, BodyField, aliases_of, field_for
from fastws_compat.dependencies.model import Gather, Manager, Plan, Step
from fastws_compat.dependencies.signature import (
    Dependency,
    FieldParameter,
    Injected,
    Kind,
    Parameter,
    kind_of,
    parameters_of,
    unwrapped,
)
from fastws_compat.exceptions import DeclarationError, DependencyScopeError, FastAPIError
from fastws_compat.params import Body, Declaration, Depends, Form, Security
from fastws_compat.porting import foreign
from fastws_compat.threads.pool import contextmanager_in
from fastws_compat.websockets import WebSocket

Call = Callable[..., Any]
Overrides = Mapping[Call, Call]
Lifetime = Literal["function", "request"]
Key = tuple[Call, tuple[str, ...], str]

SOURCE_ORDER = ("path", "query", "header", "cookie", "body")


@dataclass(slots=True)
class Node:
    """A callable at one place in the tree of dependencies."""

    call: Call
    own_scopes: list[str] = field(default_factory=list)
    parent_scopes: list[str] = field(default_factory=list)
    use_cache: bool = True
    lifetime: Lifetime | None = None
    concurrency: Concurrency | None = None

    @property
    def scopes(self) -> list[str]:
        """The OAuth2 scopes required here: those of the parents first, then its own new ones."""
        return self.parent_scopes + [
            scope
            for index, scope in enumerate(self.own_scopes)
            if scope not in self.parent_scopes and scope not in self.own_scopes[:index]
        ]


def compile_plan(
    endpoint: Call, path: str, dependencies: Sequence[Depends] = (), overrides: Overrides | None = None
) -> Plan:
    """The plan of an endpoint at `path`; the parameterless `dependencies` run first, in their order.

    Raises what `parameters_of` raises, DependencyScopeError, and FastAPIError for an annotation that
    pydantic cannot validate.
    """
    for call in itertools.chain.from_iterable((overrides or {}).items()):
        foreign.refuse_call(call, "dependency_overrides")
    return Compiler(path, overrides or {}).compile(endpoint, dependencies)


def check_paths(plan: Plan, endpoint: Call, path: str) -> None:
    """Raise DeclarationError for a `Path()` parameter that is not in the path."""
    names = _path_names(path)
    for step in (*plan.steps, plan.endpoint):
        for item in step.fields:
            sent = {alias.sent for alias in getattr(item, "aliases", ())}
            if item.source == "path" and sent and not sent & names:
                raise DeclarationError(
                    f"Path parameter {item.name!r} is not in {path!r} (endpoint {name_of(endpoint)}): "
                    f"write '{{{item.name}}}' into the path, or read it with Query(). The parameters of a "
                    "mount or host above are in websocket.path_params."
                )


class Compiler:
    """Walks the tree of dependencies depth first, in parameter order, and records one step per call."""

    def __init__(self, path: str, overrides: Overrides) -> None:
        self.path_names = _path_names(path)
        self.overrides = overrides
        self.drafts: list[tuple[Node, Call, list[Parameter], dict[str, int], bool]] = []
        self.slots: dict[Key, int] = {}
        self.read: dict[int, list[Parameter]] = {}
        self.called: set[Key] = set()

    def compile(self, endpoint: Call, dependencies: Sequence[Depends]) -> Plan:
        self.visit_all(dependencies)
        root = Node(endpoint, lifetime="function")
        needs = self._children(root, endpoint, root.scopes)
        self.drafts.append((root, endpoint, self.parameters(endpoint), needs, False))
        embed = self._embeds()
        *steps, last = [self._step(*draft, embed) for draft in self.drafts]
        return Plan(
            tuple(steps),
            last,
            has_generators=any(step.manager for step in steps),
            has_function_generators=any(step.ends_with_function for step in steps),
            needs_thread=any(step.kind == "generator" for step in steps),
            socket=self._typed_socket(endpoint),
        )

    def visit_all(self, dependencies: Sequence[Depends]) -> None:
        """Add the steps of dependencies that no parameter takes."""
        for depends in dependencies:
            if not callable(depends.dependency):
                raise AssertionError("A parameter-less dependency must have a callable dependency")
            self._visit(
                Node(
                    depends.dependency,
                    own_scopes=_scopes_of(depends),
                    lifetime=depends.scope,
                    concurrency=depends.concurrency,
                )
            )

    def _typed_socket(self, endpoint: Call) -> type[WebSocket] | None:
        """The one class of typed sockets that the plan's callables name."""
        typed = loaded("fastws_compat.messages.sockets", "TypedWebSocket")
        found: dict[type[WebSocket], Call] = {
            parameter.annotation: call
            for _, call, parameters, _, _ in self.drafts
            for parameter in parameters
            if isinstance(parameter, Injected) and is_subclass(parameter.annotation, typed)
        }
        most_derived = max(found, key=lambda cls: len(cls.__mro__), default=None)
        for cls, call in found.items():
            if most_derived is not None and not issubclass(most_derived, cls):
                raise DeclarationError(
                    f"{name_of(call)} takes a {cls.__name__}, and {name_of(found[most_derived])} a "
                    f"{most_derived.__name__} of the same connection (endpoint {name_of(endpoint)}): name "
                    "the same messages, or take a plain WebSocket."
                )
        return most_derived

    def parameters(self, call: Call) -> list[Parameter]:
        # By identity: callables need not be hashable.
        if id(call) not in self.read:
            self.read[id(call)] = parameters_of(call, self.path_names)
        return self.read[id(call)]

    def _visit(self, node: Node) -> int:
        """The slot of the node's value; adds a step unless the value is cached."""
        call = self.overrides.get(node.call, node.call) if self.overrides else node.call
        key = self.key_of(node)
        # Also for a cached dependency: a child with use_cache=False is called again (FastAPI).
        passed_on = node.scopes if self.overrides else node.parent_scopes + node.own_scopes
        needs = self._children(node, call, passed_on)
        if node.use_cache and key in self.slots:
            return self.slots[key]
        slot = len(self.drafts)
        self.drafts.append((node, call, self.parameters(call), needs, key in self.called))
        self.called.add(key)
        self.slots.setdefault(key, slot)
        return slot

    def key_of(self, node: Node) -> Key:
        """What has to be equal for two dependencies to share a value."""
        return (node.call, self._scopes_for_key(node), lifetime_of(node.call, node.lifetime) or "")

    def _children(self, node: Node, call: Call, scopes: list[str]) -> dict[str, int]:
        lasts = is_generator(call) and lifetime_of(call, node.lifetime) == "request"
        needs: dict[str, int] = {}
        for parameter in self.parameters(call):
            if not isinstance(parameter, Dependency):
                continue
            depends = parameter.depends
            if lasts and depends.scope == "function":
                name = getattr(call, "__name__", "<unnamed_callable>")
                raise DependencyScopeError(
                    f'The dependency "{name}" has a scope of "request", it cannot depend on dependencies '
                    'with scope "function".'
                )
            needs[parameter.name] = self._visit(node_of(depends, scopes))
        return needs

    def _scopes_for_key(self, node: Node) -> tuple[str, ...]:
        return tuple(sorted(set(node.scopes))) if self._uses_scopes(node.call, node.own_scopes) else ()

    def _uses_scopes(self, call: Call, own_scopes: Sequence[str]) -> bool:
        """Whether the OAuth2 scopes matter to this call or to anything below it (FastAPI's cache key)."""
        if own_scopes or isinstance(unwrapped(call), loaded("fastws_compat.security.base", "SecurityBase")):
            return True
        return any(
            isinstance(parameter, Injected) and parameter.kind == "security_scopes"
            for parameter in self.parameters(call)
        ) or any(
            self._uses_scopes(parameter.depends.dependency, _scopes_of(parameter.depends))
            for parameter in self.parameters(call)
            if isinstance(parameter, Dependency) and parameter.depends.dependency is not None
        )

    def _embeds(self) -> bool:
        """Whether body parameters are embedded under their names, which the `loc` of their errors shows."""
        params = {
            parameter.name: parameter.param
            for _, _, parameters, _, _ in self.drafts
            for parameter in parameters
            if isinstance(parameter, FieldParameter) and isinstance(parameter.param, Body)
        }
        return len(params) > 1 or any(map(_is_embedded, params.values()))

    def _step(
        self,
        node: Node,
        call: Call,
        parameters: list[Parameter],
        needs: dict[str, int],
        repeats: bool,
        embed: bool,
    ) -> Step:
        fields = [self.field(call, p, embed) for p in parameters if isinstance(p, FieldParameter)]
        fields.sort(key=lambda item: SOURCE_ORDER.index(item.source))
        gather = gatherer(
            needs,
            fields,
            {p.name: p.kind for p in parameters if isinstance(p, Injected)},
            tuple(node.scopes),
            repeats,
        )
        return step_of(node, call, gather, fields)

    def field(self, call: Call, parameter: FieldParameter, embed: bool) -> AnyField:
        name, param = parameter.name, parameter.param
        try:
            if isinstance(param, Body):
                named = embed or isinstance(param, Form)
                loc = ("body", aliases_of(name, param)[0].sent) if named else ("body",)
                return _optional(call, BodyField(name, param, loc))
            return field_for(name, param)
        except PydanticSchemaGenerationError as exc:
            raise FastAPIError(
                f"Parameter {name!r} of {name_of(call)} has an annotation that pydantic cannot validate: "
                f"{param.annotation!r}. If a dependency returns it, write Annotated[..., Depends(function)]."
            ) from exc


def _optional(call: Call, field: BodyField) -> BodyField:
    if field.default.required:
        raise DeclarationError(
            f"Parameter {field.name!r} of {name_of(call)} is read from the body, which a WebSocket handshake "
            "does not have: receive it as a message, or read it with Query(), Header() or Cookie()."
        )
    return field


def lifetime_of(call: Call, given: Lifetime | None) -> Lifetime | None:
    """When a dependency ends: as declared, or with the connection for generators (FastAPI's `scope`)."""
    return "request" if given is None and is_generator(call) else given


def is_generator(call: Call) -> bool:
    return kind_of(call) in ("generator", "async_generator")


def manager_of(call: Call, kind: Kind) -> Manager | None:
    """The context manager of a generator dependency; None for other kinds."""
    if kind == "async_generator":
        return asynccontextmanager(call)
    if kind == "generator":
        enter = contextmanager(call)
        return lambda thread, **arguments: contextmanager_in(thread, enter(**arguments))
    return None


def with_limit(manager: Manager, concurrency: Concurrency) -> Manager:
    """The context manager, which counts against the limit until its cleanup has ended."""

    @asynccontextmanager
    async def counted(*where: Executor, **arguments: Any) -> AsyncGenerator[Any, None]:
        async with concurrency.semaphore(), manager(*where, **arguments) as value:
            yield value

    return counted


def step_of(node: Node, call: Call, gather: Gather, fields: Sequence[AnyField] = ()) -> Step:
    """The step that calls `call` for a node, with the arguments that `gather` returns."""
    kind = kind_of(call)
    manager = manager_of(call, kind)
    if manager is not None and node.concurrency is not None:
        manager = with_limit(manager, node.concurrency)
    return Step(
        call=call,
        kind=kind,
        fields=tuple(fields),
        gather=gather,
        manager=manager,
        ends_with_function=node.lifetime == "function",
        concurrency=node.concurrency,
        plain=kind == "coroutine" and node.concurrency is None,
        plain_generator=kind == "async_generator" and node.concurrency is None,
        scopes=tuple(node.scopes),
    )


def node_of(depends: Depends, scopes: list[str]) -> Node:
    """The node of a dependency below a callable with these OAuth2 scopes."""
    if depends.dependency is None:  # pragma: no cover - parameters_of() fills it in
        raise AssertionError("Depends() without a callable")
    return Node(
        depends.dependency,
        own_scopes=_scopes_of(depends),
        parent_scopes=scopes,
        use_cache=depends.use_cache,
        lifetime=depends.scope,
        concurrency=depends.concurrency,
    )


def _scopes_of(depends: Depends) -> list[str]:
    return list(depends.scopes or []) if isinstance(depends, Security) else []


def _is_embedded(param: Declaration) -> bool:
    if getattr(param, "embed", None):
        return True
    return isinstance(param, Form) and model_of(param.annotation) is None


def _path_names(path: str) -> frozenset[str]:
    return frozenset(re.findall("{(.*?)}", path))
