"""The open sockets of logged-in users, which close when the login behind them ends."""

from fastws_compat.logins.session_names import session_digest as session_digest
