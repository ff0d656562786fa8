"""Security schemes: dependencies that read credentials from a handshake or refuse it with 401."""

from fastws_compat.security.api_key import APIKeyCookie as APIKeyCookie
from fastws_compat.security.api_key import APIKeyHeader as APIKeyHeader
from fastws_compat.security.api_key import APIKeyQuery as APIKeyQuery
from fastws_compat.security.http import HTTPAuthorizationCredentials as HTTPAuthorizationCredentials
from fastws_compat.security.http import HTTPBasic as HTTPBasic
from fastws_compat.security.http import HTTPBasicCredentials as HTTPBasicCredentials
from fastws_compat.security.http import HTTPBearer as HTTPBearer
from fastws_compat.security.http import HTTPDigest as HTTPDigest
from fastws_compat.security.oauth2 import OAuth2 as OAuth2
from fastws_compat.security.oauth2 import OAuth2AuthorizationCodeBearer as OAuth2AuthorizationCodeBearer
from fastws_compat.security.oauth2 import OAuth2PasswordBearer as OAuth2PasswordBearer
from fastws_compat.security.oauth2 import OAuth2PasswordRequestForm as OAuth2PasswordRequestForm
from fastws_compat.security.oauth2 import OAuth2PasswordRequestFormStrict as OAuth2PasswordRequestFormStrict
from fastws_compat.security.oauth2 import SecurityScopes as SecurityScopes
from fastws_compat.security.open_id_connect_url import OpenIdConnect as OpenIdConnect
from fastws_compat.security.websocket import WebSocketBearer as WebSocketBearer
