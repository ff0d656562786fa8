"""Descriptions of schemes: the Security Scheme Objects of OpenAPI 3.1 and AsyncAPI 3.

`scheme.model.model_dump(by_alias=True, exclude_none=True)` gives such an object.
"""

from __future__ import annotations

from enum import Enum

from pydantic import BaseModel, ConfigDict, Field


class SecuritySchemeType(Enum):
    """The types of schemes."""

    #: A key in the query string, a header or a cookie.
    apiKey = "apiKey"
    #: A scheme of the Authorization header.
    http = "http"
    #: OAuth2.
    oauth2 = "oauth2"
    #: OpenID Connect.
    openIdConnect = "openIdConnect"


class APIKeyIn(Enum):
    """Where an API key is sent."""

    #: In the query string.
    query = "query"
    #: In a header.
    header = "header"
    #: In a cookie.
    cookie = "cookie"


class Model(BaseModel):
    """Data that connections share, so it cannot be changed. Unknown keys are kept."""

    model_config = ConfigDict(extra="allow", frozen=True)


class SecurityBase(Model):
    """The fields that every scheme has."""

    #: The type of the scheme; `type` in JSON.
    type_: SecuritySchemeType = Field(serialization_alias="type")
    #: What the documentation says about the scheme.
    description: str | None = None


class APIKey(SecurityBase):
    """A key in a query parameter, header or cookie."""

    type_: SecuritySchemeType = Field(default=SecuritySchemeType.apiKey, serialization_alias="type")
    #: Where the key is sent; `in` in JSON.
    in_: APIKeyIn = Field(serialization_alias="in")
    #: The name of the parameter, header or cookie.
    name: str


class HTTPBase(SecurityBase):
    """An authentication scheme of RFC 9110."""

    type_: SecuritySchemeType = Field(default=SecuritySchemeType.http, serialization_alias="type")
    #: The name of the scheme in the Authorization header.
    scheme: str


class HTTPBearer(HTTPBase):
    """A bearer token, RFC 6750."""

    scheme: str = "bearer"
    #: How the token is formatted, such as `JWT`; for documentation only.
    bearerFormat: str | None = None


class OAuthFlow(Model):
    """The fields that every OAuth2 flow has."""

    #: Where a client refreshes its token.
    refreshUrl: str | None = None
    #: A description of each scope.
    scopes: dict[str, str] = {}


class OAuthFlowImplicit(OAuthFlow):
    """Implicit flow."""

    #: Where the user grants access.
    authorizationUrl: str


class OAuthFlowPassword(OAuthFlow):
    """Password flow."""

    #: Where a client gets its token.
    tokenUrl: str


class OAuthFlowClientCredentials(OAuthFlow):
    """Client credentials flow."""

    #: Where a client gets its token.
    tokenUrl: str


class OAuthFlowAuthorizationCode(OAuthFlow):
    """Authorization code flow."""

    #: Where the user grants access.
    authorizationUrl: str
    #: Where a client exchanges the code for its token.
    tokenUrl: str


class OAuthFlows(Model):
    """The flows that a scheme supports."""

    #: The implicit flow, if it is supported.
    implicit: OAuthFlowImplicit | None = None
    #: The password flow, if it is supported.
    password: OAuthFlowPassword | None = None
    #: The client credentials flow, if it is supported.
    clientCredentials: OAuthFlowClientCredentials | None = None
    #: The authorization code flow, if it is supported.
    authorizationCode: OAuthFlowAuthorizationCode | None = None


class OAuth2(SecurityBase):
    """OAuth2, RFC 6749."""

    type_: SecuritySchemeType = Field(default=SecuritySchemeType.oauth2, serialization_alias="type")
    #: The flows that the scheme supports.
    flows: OAuthFlows


class OpenIdConnect(SecurityBase):
    """OpenID Connect discovery."""

    type_: SecuritySchemeType = Field(default=SecuritySchemeType.openIdConnect, serialization_alias="type")
    #: Where the provider describes itself.
    openIdConnectUrl: str
