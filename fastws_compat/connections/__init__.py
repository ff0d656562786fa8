"""The lifecycle of one connection: its states, the stages between server and socket, and its end."""
