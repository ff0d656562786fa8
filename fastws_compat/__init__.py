"""FastAPI's WebSocket API for Django: decorated functions become Channels consumers.

Names are imported on first access, as in pydantic: a process that serves no sockets does not import the
library behind them.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from fastws_compat import status as status
    from fastws_compat.applications import FastAPI as FastAPI
    from fastws_compat.applications import websocket as websocket
    from fastws_compat.background import BackgroundTasks as BackgroundTasks
    from fastws_compat.datastructures import UploadFile as UploadFile
    from fastws_compat.exceptions import HTTPException as HTTPException
    from fastws_compat.exceptions import WebSocketException as WebSocketException
    from fastws_compat.messages import Call as Call
    from fastws_compat.messages import ErrorFrame as ErrorFrame
    from fastws_compat.messages import MessageRouter as MessageRouter
    from fastws_compat.messages import MessageValidationError as MessageValidationError
    from fastws_compat.messages import Reply as Reply
    from fastws_compat.messages import TypedWebSocket as TypedWebSocket
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

__version__ = "0.2.0"

# The same names for Python that type checkers read above; a test compares the two.
_NAMES = {
    "applications": ("FastAPI", "websocket"),
    "background": ("BackgroundTasks",),
    "datastructures": ("UploadFile",),
    "exceptions": ("HTTPException", "WebSocketException"),
    "messages": ("Call", "ErrorFrame", "MessageRouter", "MessageValidationError", "Reply", "TypedWebSocket"),
    "param_functions": ("Body", "Cookie", "Depends", "File", "Form", "Header", "Path", "Query", "Security"),
    "requests": ("Request",),
    "responses": ("Response",),
    "routing": ("APIRouter", "APIWebSocketRoute"),
    "websockets": ("WebSocket", "WebSocketDisconnect", "WebSocketState"),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}
__all__ = ["status", *_HOMES]


def __getattr__(name: str) -> Any:
    """A name that FastAPI exports, or a module, because `import fastapi` loads its modules too."""
    module = f"{__name__}.{_HOMES.get(name, name)}"
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        found = import_module(module)
    except ModuleNotFoundError as exc:
        if exc.name != module:
            raise
        return _getattr_of(__name__)(name)
    value = globals()[name] = getattr(found, name) if name in _HOMES else found
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Finder:
    """Makes a failed import of a name from FastAPI or Starlette say what to use instead.

    A missing module could be explained by a finder behind all others. A missing name needs a `__getattr__` in
    the module, in place before the module runs. Written into each module it would be a line in every file and
    would hide unknown attributes from type checkers, so the finder stands first and has the loader add it.
    The module keeps the spec and the loader that the other finders gave it.
    """

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> Any:
        if not name.startswith(f"{__name__}."):
            return None
        for finder in sys.meta_path:
            spec = None if finder is cls else finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = cast(Any, _Loader(spec.loader))
                return spec
        import_module(f"{__name__}.porting.names").explain(name)
        return None


class _Loader:
    """A module's own loader, which adds a `__getattr__` before it runs the module."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def exec_module(self, module: Any) -> None:
        module.__loader__ = module.__spec__.loader = self._loader
        module.__getattr__ = _getattr_of(module.__name__)
        self._loader.exec_module(module)


def _getattr_of(module: str) -> Any:
    def __getattr__(name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return import_module("fastws_compat.porting.names").find(module, name)

    return __getattr__


# coverage imports the package and then removes it from `sys.modules`. The finder of the second import
# replaces that of the first: two finders would call each other forever.
sys.meta_path[:] = [_Finder, *(each for each in sys.meta_path if getattr(each, "__module__", "") != __name__)]
