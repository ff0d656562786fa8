"""FastAPI's WebSocket API for Django."""

__version__ = "0.1.0"
