"""The life of one connection: its states, what stands between the server and the socket, and its end."""
