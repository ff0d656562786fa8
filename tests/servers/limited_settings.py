"""Settings for the application of `limited`, with short time limits."""

SECRET_KEY = "not secret"
FASTWS = {"DISCONNECT_GRACE": 0.2, "HANDSHAKE_TIMEOUT": 0.5}
