"""Typed messages: what a client may send and what it gets, validated both ways."""

from fastws_compat.messages.contract import Contract as Contract
from fastws_compat.messages.errors import MessageValidationError as MessageValidationError
from fastws_compat.messages.frames import Call as Call
from fastws_compat.messages.frames import ErrorFrame as ErrorFrame
from fastws_compat.messages.frames import Reply as Reply
from fastws_compat.messages.router import MessageRouter as MessageRouter
from fastws_compat.messages.sockets import TypedWebSocket as TypedWebSocket
from fastws_compat.messages.sockets import (
    message_validation_exception_handler as message_validation_exception_handler,
)
