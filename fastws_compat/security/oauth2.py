"""OAuth2: the Authorization header, the bearer tokens of two flows, the password form, and scopes."""

from __future__ import annotations

from typing import Annotated, Any, cast

from fastws_compat.param_functions import Form
from fastws_compat.requests import HTTPConnection
from fastws_compat.security import models
from fastws_compat.security.base import Scheme
from fastws_compat.security.utils import read_authorization

GrantType = Form(pattern="^password$")
Text = Annotated[str, Form()]
Secret = Annotated[str, Form(json_schema_extra={"format": "password"})]
OptionalText = Annotated[str | None, Form()]
OptionalSecret = Annotated[str | None, Form(json_schema_extra={"format": "password"})]


class OAuth2PasswordRequestForm:
    """The fields of a password login (RFC 6749, 4.3.2). A handshake has no body: log in over HTTP."""

    def __init__(
        self,
        *,
        grant_type: Annotated[str | None, GrantType] = None,
        username: Text,
        password: Secret,
        scope: Text = "",
        client_id: OptionalText = None,
        client_secret: OptionalSecret = None,
    ) -> None:
        #: The kind of grant, which is "password".
        self.grant_type = grant_type
        #: The user name.
        self.username = username
        #: The password.
        self.password = password
        #: The scopes that the client requests.
        self.scopes = scope.split()
        #: The id of the client; None if it sent none.
        self.client_id = client_id
        #: The secret of the client; None if it sent none.
        self.client_secret = client_secret


class OAuth2PasswordRequestFormStrict(OAuth2PasswordRequestForm):
    """The same form with a required `grant_type`, as in the RFC."""

    def __init__(
        self,
        grant_type: Annotated[str, GrantType],
        username: Text,
        password: Secret,
        scope: Text = "",
        client_id: OptionalText = None,
        client_secret: OptionalSecret = None,
    ) -> None:
        super().__init__(
            grant_type=grant_type,
            username=username,
            password=password,
            scope=scope,
            client_id=client_id,
            client_secret=client_secret,
        )


class OAuth2(Scheme):
    """The whole Authorization header."""

    model: models.OAuth2

    def __init__(
        self,
        *,
        flows: models.OAuthFlows | dict[str, dict[str, Any]] = models.OAuthFlows(),
        scheme_name: str | None = None,
        description: str | None = None,
        auto_error: bool = True,
    ) -> None:
        model = models.OAuth2(flows=cast(models.OAuthFlows, flows), description=description)
        super().__init__(model, scheme_name, auto_error)

    async def __call__(self, request: HTTPConnection) -> str | None:
        return self.require(request.headers.get("Authorization") or None)


class OAuth2Bearer(OAuth2):
    """The token of an `Authorization: Bearer` header; empty if the header has only the scheme."""

    async def __call__(self, request: HTTPConnection) -> str | None:
        _, token = read_authorization(request, "bearer") or (None, None)
        return self.require(token)


class OAuth2PasswordBearer(OAuth2Bearer):
    """A token that the client obtained with a password."""

    def __init__(
        self,
        tokenUrl: str,
        scheme_name: str | None = None,
        scopes: dict[str, str] | None = None,
        description: str | None = None,
        auto_error: bool = True,
        refreshUrl: str | None = None,
    ) -> None:
        flow = {"tokenUrl": tokenUrl, "refreshUrl": refreshUrl, "scopes": scopes or {}}
        super().__init__(
            flows={"password": flow},
            scheme_name=scheme_name,
            description=description,
            auto_error=auto_error,
        )


class OAuth2AuthorizationCodeBearer(OAuth2Bearer):
    """A token that the client obtained with an authorization code."""

    def __init__(
        self,
        authorizationUrl: str,
        tokenUrl: str,
        refreshUrl: str | None = None,
        scheme_name: str | None = None,
        scopes: dict[str, str] | None = None,
        description: str | None = None,
        auto_error: bool = True,
    ) -> None:
        flow = {"tokenUrl": tokenUrl, "refreshUrl": refreshUrl, "scopes": scopes or {}}
        super().__init__(
            flows={"authorizationCode": {"authorizationUrl": authorizationUrl, **flow}},
            scheme_name=scheme_name,
            description=description,
            auto_error=auto_error,
        )


class SecurityScopes:
    """The scopes that all `Security(...)` from the endpoint down to this parameter require."""

    def __init__(self, scopes: list[str] | None = None) -> None:
        #: The scopes that the dependencies above require.
        self.scopes: list[str] = scopes or []
        #: The same, separated by spaces.
        self.scope_str = " ".join(self.scopes)
