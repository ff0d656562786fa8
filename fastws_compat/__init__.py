"""FastAPI's WebSocket API for Django: decorated functions become Channels consumers."""

from fastws_compat import status as status
from fastws_compat.applications import FastAPI as FastAPI
from fastws_compat.applications import websocket as websocket
from fastws_compat.background import BackgroundTasks as BackgroundTasks
from fastws_compat.datastructures import UploadFile as UploadFile
from fastws_compat.exceptions import HTTPException as HTTPException
from fastws_compat.exceptions import WebSocketException as WebSocketException
from fastws_compat.param_functions import Body as Body
from fastws_compat.param_functions import Cookie as Cookie
from fastws_compat.param_functions import Depends as Depends
from fastws_compat.param_functions import File as File
from fastws_compat.param_functions import Form as Form
from fastws_compat.param_functions import Header as Header
from fastws_compat.param_functions import Path as Path
from fastws_compat.param_functions import Query as Query
from fastws_compat.param_functions import Security as Security
from fastws_compat.requests import Request as Request
from fastws_compat.responses import Response as Response
from fastws_compat.routing import APIRouter as APIRouter
from fastws_compat.routing import APIWebSocketRoute as APIWebSocketRoute
from fastws_compat.websockets import WebSocket as WebSocket
from fastws_compat.websockets import WebSocketDisconnect as WebSocketDisconnect
from fastws_compat.websockets import WebSocketState as WebSocketState

__version__ = "0.1.0"
