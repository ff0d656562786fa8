"""Descriptions of schemes: the Security Scheme Objects of OpenAPI 3.1 and AsyncAPI 3.

`scheme.model.model_dump(by_alias=True, exclude_none=True)` gives such an object.
"""

from __future__ import annotations

from enum import Enum

from pydantic import BaseModel, ConfigDict, Field


class SecuritySchemeType(Enum):
    """The types of schemes."""

    apiKey = "apiKey"
    http = "http"
    oauth2 = "oauth2"
    openIdConnect = "openIdConnect"


class APIKeyIn(Enum):
    """Where an API key is sent."""

    query = "query"
    header = "header"
    cookie = "cookie"


class Model(BaseModel):
    """Data that connections share, so it cannot be changed. Unknown keys are kept."""

    model_config = ConfigDict(extra="allow", frozen=True)


class SecurityBase(Model):
    """The fields that every scheme has."""

    type_: SecuritySchemeType = Field(serialization_alias="type")
    description: str | None = None


class APIKey(SecurityBase):
    """A key in a query parameter, header or cookie."""

    type_: SecuritySchemeType = Field(default=SecuritySchemeType.apiKey, serialization_alias="type")
    in_: APIKeyIn = Field(serialization_alias="in")
    name: str


class HTTPBase(SecurityBase):
    """An authentication scheme of RFC 9110."""

    type_: SecuritySchemeType = Field(default=SecuritySchemeType.http, serialization_alias="type")
    scheme: str


class HTTPBearer(HTTPBase):
    """A bearer token, RFC 6750."""

    scheme: str = "bearer"
    bearerFormat: str | None = None


class OAuthFlow(Model):
    """The fields that every OAuth2 flow has."""

    refreshUrl: str | None = None
    scopes: dict[str, str] = {}


class OAuthFlowImplicit(OAuthFlow):
    """Implicit flow."""

    authorizationUrl: str


class OAuthFlowPassword(OAuthFlow):
    """Password flow."""

    tokenUrl: str


class OAuthFlowClientCredentials(OAuthFlow):
    """Client credentials flow."""

    tokenUrl: str


class OAuthFlowAuthorizationCode(OAuthFlow):
    """Authorization code flow."""

    authorizationUrl: str
    tokenUrl: str


class OAuthFlows(Model):
    """The flows that a scheme supports."""

    implicit: OAuthFlowImplicit | None = None
    password: OAuthFlowPassword | None = None
    clientCredentials: OAuthFlowClientCredentials | None = None
    authorizationCode: OAuthFlowAuthorizationCode | None = None


class OAuth2(SecurityBase):
    """OAuth2, RFC 6749."""

    type_: SecuritySchemeType = Field(default=SecuritySchemeType.oauth2, serialization_alias="type")
    flows: OAuthFlows


class OpenIdConnect(SecurityBase):
    """OpenID Connect discovery."""

    type_: SecuritySchemeType = Field(default=SecuritySchemeType.openIdConnect, serialization_alias="type")
    openIdConnectUrl: str
