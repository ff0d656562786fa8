"""The messages of one route: compiled at its declaration, or once their types are defined."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Protocol, cast

from fastws_compat.connections.lifecycle import open_socket
from fastws_compat.connections.states import SESSION
from fastws_compat.dependencies.annotations import name_of
from fastws_compat.dependencies.model import Plan
from fastws_compat.dependencies.run import run_endpoint
from fastws_compat.dependencies.signature import unwrapped
from fastws_compat.exception_handlers import handle
from fastws_compat.exceptions import DeclarationError, EndpointContext
from fastws_compat.limits import UNCOUNTED, Limits
from fastws_compat.messages.contract import Contract, compile_contract
from fastws_compat.messages.dispatch import Dispatch, compile_dispatch
from fastws_compat.messages.members import MissingTypeError
from fastws_compat.messages.router import MessageRouter
from fastws_compat.messages.sockets import TypedWebSocket
from fastws_compat.params import Depends
from fastws_compat.routing.options import TYPED_LIMITS, TYPED_ONLY
from fastws_compat.types import Receive, Scope, Send
from fastws_compat.websockets import WebSocket


class Route(Protocol):
    """A route as its messages see it."""

    endpoint: Callable[..., Any]
    call: Callable[..., Any]
    path_format: str
    dependencies: list[Depends]
    owner: Any
    context: EndpointContext
    limits: Limits
    plan: Plan

    def overridden_plan(self) -> Plan: ...


class RouteMessages:
    """What a route declares about its messages, and the contract that follows from it."""

    def __init__(self, route: Route, socket: Any, options: Mapping[str, Any]) -> None:
        self._where = f"WebSocket endpoint {name_of(route.endpoint)}"
        self._namespace = getattr(unwrapped(route.endpoint), "__globals__", {})
        self._socket: type[TypedWebSocket[Any, Any]] | None = socket
        self._options = options
        self._contract: Contract | None = None
        # The contract under the limits that it was last asked for: they change when a router is included.
        self._held: tuple[Limits, Contract] | None = None
        self.dispatch: Dispatch | None = None
        self._route = route
        self._check_options()
        with suppress(MissingTypeError):  # `check` tries again
            self._compile()

    def contract(self, limits: Limits) -> Contract:
        """The contract where these limits hold; DeclarationError if a type is still not defined."""
        if self._held is None or self._held[0] is not limits:
            self.check()
            self._held = (limits, cast(Contract, self._contract).under(limits))
        return self._held[1]

    def check(self) -> None:
        """Raise DeclarationError for a type that is still not defined."""
        if self._contract is not None:
            return
        try:
            self._compile()
        except MissingTypeError as exc:
            raise DeclarationError(
                f"{self._where} names {exc.name!r} in its messages, which is not defined: move its "
                "definition up, above the endpoint, or for a router above include_router()."
            ) from None

    def _compile(self) -> None:
        options = self._options
        if self._socket is not None:
            received, sent = self._socket.forms or (None, None)
        else:
            received, sent = options.get("receives"), options.get("sends")
        contract = compile_contract(
            received,
            sent,
            self._where,
            namespace=self._namespace,
            enforced=self._socket is not None,
            binary_json=options.get("binary_json", False),
            heartbeat=options.get("heartbeat", False),
            has_functions=options.get("handlers") is not None,
        )
        if options.get("handlers") is not None:
            self.dispatch = self._compile_dispatch(None, contract)
            self._route.plan = self.dispatch.plan
        self._contract = contract

    def _compile_dispatch(self, overrides: Mapping[Any, Any] | None, contract: Contract) -> Dispatch:
        route, router = self._route, self._options["handlers"]
        if not isinstance(router, MessageRouter):
            raise DeclarationError(f"{self._where} has handlers={router!r}: give it a MessageRouter.")
        return compile_dispatch(
            route.call, route.path_format, route.dependencies, overrides, router, contract
        )

    def _check_options(self) -> None:
        """Raise DeclarationError for options that the kind of socket does not have."""
        options = self._options
        if self._socket is None:
            advice = "which needs a TypedWebSocket: write websocket: TypedWebSocket[In, Out]"
            self._refuse_options(filter(options.get, TYPED_ONLY), advice)
            self._refuse_options((name for name in TYPED_LIMITS if name in options), advice)
        elif self._socket.forms is None:
            raise DeclarationError(
                f"{self._where} takes a TypedWebSocket without messages: write TypedWebSocket[In, Out]."
            )
        else:
            advice = "which its TypedWebSocket says already: leave it out"
            self._refuse_options(filter(options.get, ("receives", "sends")), advice)
        self._check_switches()

    def _check_switches(self) -> None:
        for name in ("heartbeat", "binary_json"):
            if not isinstance(value := self._options.get(name, False), bool):
                raise DeclarationError(f"{self._where} has {name}={value!r}: write True or False.")

    def _refuse_options(self, names: Iterable[str], advice: str) -> None:
        for name in names:
            raise DeclarationError(f"{self._where} has {name}=, {advice}.")

    def _compiled_for(self, route: Route) -> tuple[Plan, Dispatch | None]:
        """The plan and the functions of a connection, under the current overrides."""
        overrides = getattr(route.owner, "dependency_overrides", None)
        if not overrides:
            return route.plan, self.dispatch
        if self.dispatch is None:
            return route.overridden_plan(), None
        dispatch = self._compile_dispatch(overrides, cast(Contract, self._contract))
        return dispatch.plan, dispatch

    def _open(self, route: Route, scope: Scope, receive: Receive, send: Send) -> tuple[Plan, WebSocket[Any]]:
        contract = self.contract(route.limits)
        plan, dispatch = self._compiled_for(route)
        websocket = open_socket(scope, receive, send, cast(Any, plan.socket))
        cast("TypedWebSocket[Any, Any]", websocket).bind(contract, dispatch)
        return plan, websocket

    async def run(self, route: Route, scope: Scope, receive: Receive, send: Send) -> None:
        """As the run of a route with a plain WebSocket."""
        plan, websocket = self._open(route, scope, receive, send)
        slot = route.limits.apply(websocket, scope.get(SESSION))
        try:
            if slot is UNCOUNTED:  # nearly always
                await run_endpoint(plan, websocket, route.context)
            else:
                with slot:
                    await run_endpoint(plan, websocket, route.context)
        except Exception as exc:
            if not await handle(websocket, exc):
                raise
