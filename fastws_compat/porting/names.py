"""Names of FastAPI and Starlette that are in another module here, or missing, and what to use instead.

The package's import hook calls `explain` for a missing module, and modules call `find` for a missing name.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

PACKAGE = "fastws_compat"

# FastAPI's modules re-export names of other modules, and people import them from there. This is where the
# names are here.
HOMES = {
    "": "params routing status",
    "applications": "FastAPI Starlette",
    "background": "BackgroundTask BackgroundTasks",
    "concurrency": "P T asynccontextmanager contextmanager_in_threadpool iterate_in_threadpool"
    " run_in_threadpool",
    "convertors": "CONVERTOR_TYPES Convertor",
    "datastructures": "Default DefaultPlaceholder FormData Headers ImmutableMultiDict MutableHeaders"
    " QueryParams State URL URLPath UploadFile parse_host_header",
    "encoders": "IncEx jsonable_encoder",
    "exception_handlers": "http_exception_handler request_validation_exception_handler"
    " websocket_request_validation_exception_handler",
    "exceptions": "DependencyScopeError EndpointContext FastAPIDeprecationWarning FastAPIError HTTPException"
    " PydanticV1NotSupportedError RequestValidationError ResponseValidationError StarletteDeprecationWarning"
    " WebSocketException WebSocketRequestValidationError",
    "logger": "logger",
    "middleware": "Middleware",
    "middleware.authentication": "AuthenticationMiddleware",
    "middleware.base": "BaseHTTPMiddleware DispatchFunction RequestResponseEndpoint",
    "middleware.httpsredirect": "HTTPSRedirectMiddleware",
    "middleware.sessions": "SessionMiddleware",
    "middleware.trustedhost": "TrustedHostMiddleware",
    "param_functions": "Body Cookie Depends File Form Header Path Query Security",
    "params": "ParamTypes",
    "requests": "HTTPConnection Request get_route_path",
    "responses": "HTMLResponse JSONResponse PlainTextResponse RedirectResponse Response StreamingResponse",
    "routing": "APIRouter APIWebSocketRoute BaseRoute Host Match Mount NoMatchFound Router WebSocketRoute",
    "security.base": "SecurityBase",
    "security.oauth2": "SecurityScopes",
    "security.utils": "get_authorization_scheme_param",
    "status": "HTTP_401_UNAUTHORIZED WS_1008_POLICY_VIOLATION",
    "testclient": "TestClient",
    "types": "ASGIApp AppType DecoratedCallable ExceptionHandler Lifespan Message Receive Scope Send",
    "websockets": "WebSocket WebSocketClose WebSocketDisconnect WebSocketState",
}

# Other names for the same objects.
ALIASES = {
    "HTTPBaseModel": "openapi.models.HTTPBase",
    "HTTPBearerModel": "openapi.models.HTTPBearer",
    "HTTPExceptionHandler": "types.ExceptionHandler",
    "OAuth2Model": "openapi.models.OAuth2",
    "OAuthFlowsModel": "openapi.models.OAuthFlows",
    "OpenIdConnectModel": "openapi.models.OpenIdConnect",
    "PARAM_FORMAT_REGEX": "routing.paths.FORMAT_PARAM",
    "PARAM_REGEX": "routing.paths.PARAM",
    "SecurityBaseModel": "openapi.models.SecurityBase",
    "StarletteBackgroundTasks": "background.BackgroundTasks",
    "StarletteHTTPException": "exceptions.HTTPException",
    "StarletteUploadFile": "datastructures.UploadFile",
    "StarletteWebSocketException": "exceptions.WebSocketException",
    "WebSocketExceptionHandler": "types.ExceptionHandler",
    "cookie_parser": "requests.parse_cookie",
    "get_name": "dependencies.annotations.name_of",
    "is_async_callable": "concurrency.is_async",
}

VIEW = "HTTP stays with Django: write a view and put it into urls.py."
FORM = "Forms are HTTP, which stays with Django: a view reads request.POST and request.FILES."
PAGE = "Pages are HTTP, which stays with Django: a view returns render(request, ...)."
FILES = "Django serves static files: set STATIC_URL and use django.contrib.staticfiles, or WhiteNoise."
SETTINGS = "Configuration is Django's: read os.environ in settings.py and use django.conf.settings."
CORS = (
    'CORS does not cover WebSockets: name the origins of other sites in FASTWS["ALLOWED_ORIGINS"], '
    "and use django-cors-headers for HTTP."
)
GZIP = "Django compresses HTTP responses with django.middleware.gzip.GZipMiddleware, which ignores sockets."
BODY = (
    "Only HTTP has bodies, which Django limits with DATA_UPLOAD_MAX_MEMORY_SIZE; "
    "max_message_size limits a socket's messages."
)
HANDLERS = "Applications handle exceptions by themselves: use exception_handlers= or add_exception_handler()."
WSGI = "Django serves WSGI applications and HTTP: mount ASGI applications only, with app.mount()."
EXITS = "Dependencies with `yield` are cleaned up without it: leave it out."
SCHEMA = (
    "OpenAPI describes HTTP, which stays with Django: use django-ninja or drf-spectacular; "
    "`manage.py ws_routes` lists the sockets."
)
EVENTS = (
    "Server-sent events are HTTP, which stays with Django: send messages over the socket, "
    "or return a StreamingHttpResponse from a view."
)
TELEMETRY = "Use fastws_compat.contrib.opentelemetry, or the signals in fastws_compat.signals."
SERVER = "Run the project with daphne, uvicorn or `manage.py runserver`."
FASTAPI_INSIDE = (
    "This is internal to FastAPI: declare endpoints, parameters and Depends() instead, and add routes "
    "with add_api_websocket_route()."
)
STARLETTE_INSIDE = "This is internal to Starlette: use WebSocket, Response and add_websocket_route() instead."
JSON = "Return a JSONResponse, which needs no other library."
ENCODERS = "Give jsonable_encoder() a custom_encoder, or add the class to ENCODERS_BY_TYPE."

# Modules that do not exist here.
MODULES = {
    "cli": SERVER,
    "config": SETTINGS,
    "dependencies.models": FASTAPI_INSIDE,
    "dependencies.utils": FASTAPI_INSIDE,
    "formparsers": FORM,
    "middleware.asyncexitstack": EXITS,
    "middleware.body_limit": BODY,
    "middleware.cors": CORS,
    "middleware.errors": HANDLERS,
    "middleware.exceptions": HANDLERS,
    "middleware.gzip": GZIP,
    "middleware.opentelemetry": TELEMETRY,
    "middleware.wsgi": WSGI,
    "openapi.constants": SCHEMA,
    "openapi.docs": SCHEMA,
    "openapi.utils": SCHEMA,
    "schemas": SCHEMA,
    "sse": EVENTS,
    "staticfiles": FILES,
    "telemetry": TELEMETRY,
    "templating": PAGE,
    "utils": FASTAPI_INSIDE,
}

# Names that do not exist here, in any module.
_NAMES = (
    ("APIRoute HTTPEndpoint Route", VIEW),
    (
        "FileResponse MalformedRangeHeader RangeNotSatisfiable",
        "Files are HTTP: a Django view returns a FileResponse.",
    ),
    ("NotModifiedResponse StaticFiles", FILES),
    ("Jinja2Templates pass_context", PAGE),
    ("FormParser MultiPartException MultiPartParser parse_options_header", FORM),
    ("AwaitableOrContextManager AwaitableOrContextManagerWrapper", FORM),
    ("CommaSeparatedStrings Config Environ EnvironError environ", SETTINGS),
    ("Secret", "Use pydantic.SecretStr, and django.conf.settings for configuration."),
    ("CORSMiddleware", CORS),
    ("GZipMiddleware", GZIP),
    ("AppBodyLimitMiddleware MAX_BODY_SIZE_SCOPE_KEY RequestBodyLimitMiddleware", BODY),
    ("get_body_limit_error get_body_size_limit validate_max_body_size wrap_app_with_body_limit", BODY),
    ("ExceptionMiddleware ServerErrorMiddleware wrap_app_handling_exceptions", HANDLERS),
    ("WSGIMiddleware", WSGI),
    ("AsyncExitStackMiddleware", EXITS),
    ("Session", "Use SessionBase from django.contrib.sessions.backends.base: websocket.session is Django's."),
    ("OpenTelemetryMiddleware ExceptionTelemetryMiddleware NativeTelemetry", TELEMETRY),
    ("TelemetryConfig TelemetryData get_telemetry_data", TELEMETRY),
    ("EventSourceResponse KEEPALIVE_COMMENT ServerSentEvent format_sse_event", EVENTS),
    ("ORJSONResponse UJSONResponse orjson ujson", JSON),
    ("ClientDisconnect", "A socket whose client has disconnected raises WebSocketDisconnect."),
    ("SERVER_PUSH_HEADERS_TO_COPY", VIEW),
    ("ASGI2App ASGI3App ASGIInstance", "Use ASGIApp from fastws_compat.types."),
    ("Color PyExtraColor", "Use Color from pydantic_extra_types.color."),
    ("encoders_by_class_tuples generate_encoders_by_class_tuples is_pydantic_v1_model_instance", ENCODERS),
    ("RequestErrorModel WebSocketErrorModel", "RequestValidationError.errors() describes the errors."),
    ("Undefined", "Use PydanticUndefined from pydantic_core."),
    ("UnionType", "Use UnionType from Python's module types."),
    ("DefaultType", "Use a TypeVar of your own."),
    ("Example generate_unique_id get_openapi", SCHEMA),
    ("get_redoc_html get_swagger_ui_html get_swagger_ui_oauth2_redirect_html", SCHEMA),
    ("get_request_handler request_response run_endpoint_function serialize_response", VIEW),
    ("Dependant DependencyCacheKey ModelField ModelNameMap SolvedDependency", FASTAPI_INSIDE),
    ("create_model_field get_dependant get_parameterless_sub_dependant get_stream_item_type", FASTAPI_INSIDE),
    ("get_typed_return_annotation get_value_or_default get_websocket_app", FASTAPI_INSIDE),
    ("is_body_allowed_for_status_code lenient_issubclass solve_dependencies", FASTAPI_INSIDE),
    ("create_collapsing_task_group", STARLETTE_INSIDE),
)
# The models of OpenAPI; some of these names mean something else in other modules.
_OPENAPI = (
    "BaseModelWithConfig Components Contact Discriminator EmailStr Encoding Example"
    " ExternalDocumentation Header Info License Link MediaType OpenAPI Operation Parameter"
    " ParameterBase ParameterInType PathItem Reference RequestBody Response Schema SchemaOrBool"
    " SchemaType SecurityScheme Server ServerVariable Tag XML with_info_plain_validator_function"
)

_PLACES = {name: f"{home}.{name}".lstrip(".") for home, names in HOMES.items() for name in names.split()}
_PLACES |= ALIASES
_ADVICE = {name: advice for names, advice in _NAMES for name in names.split()}
_ADVICE |= {f"openapi.models.{name}": SCHEMA for name in _OPENAPI.split()}


def explain(module: str) -> None:
    """Raise ModuleNotFoundError with advice for a module that only FastAPI or Starlette has."""
    advice = MODULES.get(module.removeprefix(f"{PACKAGE}."))
    if advice is not None:
        # Without `name=`: `from package import module` swallows an error that has it, and the advice with it.
        raise ModuleNotFoundError(f"There is no {module}. {advice}")


def advice_on(path: str, name: str) -> str | None:
    """What to use instead of a name that FastAPI or Starlette has in its module `path`."""
    return _advice(path, name) or MODULES.get(path)


def _advice(path: str, name: str) -> str | None:
    return _ADVICE.get(f"{path}.{name}") or _ADVICE.get(name)


def find(module: str, name: str) -> Any:
    """A name that `module` lacks and its twin in FastAPI or Starlette re-exports from another module.

    Raises ImportError with advice for a name that only FastAPI or Starlette has, and AttributeError for an
    unknown name.
    """
    own = module.removeprefix(PACKAGE).removeprefix(".")
    advice = _advice(own, name)
    place = _PLACES.get(name)
    if advice is None and place is not None and place != f"{own}.{name}":
        if own:
            home, _, attribute = f"{PACKAGE}.{place}".rpartition(".")
            return getattr(import_module(home), attribute)
        advice = f"It is {PACKAGE}.{place}."
    if advice is None:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    raise ImportError(f"{module} has no {name!r}. {advice}", name=module)
