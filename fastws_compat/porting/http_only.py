"""FastAPI's options and methods for HTTP, which stays with Django.

The options are accepted and ignored; the methods raise an error that explains this.
"""

from __future__ import annotations

from typing import Any

HTTP_ONLY = (
    *("get", "put", "post", "delete", "options", "head", "patch", "trace"),
    *("route", "add_route", "api_route", "add_api_route", "frontend"),
)

# Options of FastAPI that have no meaning for a WebSocket.
INCLUDE_OPTIONS = frozenset(
    {
        "tags",
        "responses",
        "deprecated",
        "include_in_schema",
        "default_response_class",
        "callbacks",
        "generate_unique_id_function",
        "max_body_size",
        "form_limits",
    }
)
ROUTER_OPTIONS = INCLUDE_OPTIONS | {"route_class", "strict_content_type"}
APP_OPTIONS = (ROUTER_OPTIONS - {"tags", "route_class"}) | {
    "telemetry",
    "openapi_url",
    "openapi_tags",
    "servers",
    "docs_url",
    "redoc_url",
    "swagger_ui_oauth2_redirect_url",
    "swagger_ui_init_oauth",
    "terms_of_service",
    "contact",
    "license_info",
    "root_path_in_servers",
    "webhooks",
    "swagger_ui_parameters",
    "separate_input_output_schemas",
    "openapi_external_docs",
}
# Options of the decorators for HTTP; FastAPI's `websocket()` does not accept them either.
OPERATION_OPTIONS = INCLUDE_OPTIONS | {
    *("response_model", "response_class", "response_description", "status_code", "summary", "description"),
    *("response_model_include", "response_model_exclude", "response_model_by_alias"),
    *("response_model_exclude_unset", "response_model_exclude_defaults", "response_model_exclude_none"),
    *("operation_id", "openapi_extra", "methods", "strict_content_type", "route_class_override"),
}
# Options of SessionMiddleware that are settings in Django.
SESSION_OPTIONS = frozenset(
    {"session_cookie", "max_age", "path", "same_site", "https_only", "domain", "partitioned"}
)


VIEW = "write a view and put it into urls.py; only WebSocket routes belong here."
ADVICE = {
    "middleware": "put a Django middleware into MIDDLEWARE; add_middleware() takes an ASGI class, which also "
    "runs for sockets.",
    "openapi": "use django-ninja or drf-spectacular; `manage.py ws_routes` lists the sockets.",
}


class HTTPOnly:
    """A method that FastAPI has for HTTP; accessing it raises AttributeError with the alternative."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, owner: object, kind: type) -> Any:
        advice = ADVICE.get(self.name, VIEW)
        raise AttributeError(f"{kind.__name__}.{self.name} serves HTTP, which stays with Django: {advice}")


def http_options(options: dict[str, Any], known: frozenset[str], function: str) -> dict[str, Any]:
    """The options, if all of them are `known`; TypeError for one that FastAPI does not have either."""
    for unknown in sorted(options.keys() - known):
        raise TypeError(f"{function}() got an unexpected keyword argument {unknown!r}")
    return options
