"""A client for tests that runs an application in process: no server, no port, no async test."""

from fastws_compat.testclient.client import TestClient as TestClient
from fastws_compat.testclient.denial import WebSocketDenialResponse as WebSocketDenialResponse
from fastws_compat.testclient.session import WebSocketTestSession as WebSocketTestSession
from fastws_compat.websockets import WebSocketDisconnect as WebSocketDisconnect
