"""The open sockets of logged-in users, and how they close when the login behind them ends."""
