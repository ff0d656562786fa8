"""FastAPI's `fastapi.openapi.models`, as far as security classes are written with it."""

from fastws_compat.security.models import APIKey as APIKey
from fastws_compat.security.models import APIKeyIn as APIKeyIn
from fastws_compat.security.models import HTTPBase as HTTPBase
from fastws_compat.security.models import HTTPBearer as HTTPBearer
from fastws_compat.security.models import OAuth2 as OAuth2
from fastws_compat.security.models import OAuthFlow as OAuthFlow
from fastws_compat.security.models import OAuthFlowAuthorizationCode as OAuthFlowAuthorizationCode
from fastws_compat.security.models import OAuthFlowClientCredentials as OAuthFlowClientCredentials
from fastws_compat.security.models import OAuthFlowImplicit as OAuthFlowImplicit
from fastws_compat.security.models import OAuthFlowPassword as OAuthFlowPassword
from fastws_compat.security.models import OAuthFlows as OAuthFlows
from fastws_compat.security.models import OpenIdConnect as OpenIdConnect
from fastws_compat.security.models import SecurityBase as SecurityBase
from fastws_compat.security.models import SecuritySchemeType as SecuritySchemeType
