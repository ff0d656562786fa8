"""Routers and routes: which route takes a connection, and how routers nest (FastAPI and Starlette)."""

from fastws_compat.routing.api_router import APIRouter as APIRouter
from fastws_compat.routing.included import IncludedRouter as IncludedRouter
from fastws_compat.routing.included import RouteContext as RouteContext
from fastws_compat.routing.included import iter_route_contexts as iter_route_contexts
from fastws_compat.routing.paths import compile_path as compile_path
from fastws_compat.routing.paths import replace_params as replace_params
from fastws_compat.routing.routers import Host as Host
from fastws_compat.routing.routers import Mount as Mount
from fastws_compat.routing.routers import Router as Router
from fastws_compat.routing.routes import APIWebSocketRoute as APIWebSocketRoute
from fastws_compat.routing.routes import BaseRoute as BaseRoute
from fastws_compat.routing.routes import Match as Match
from fastws_compat.routing.routes import NoMatchFound as NoMatchFound
from fastws_compat.routing.routes import WebSocketRoute as WebSocketRoute
from fastws_compat.routing.routes import flatten as flatten
from fastws_compat.routing.routes import websocket_session as websocket_session
