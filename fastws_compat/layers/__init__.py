"""The channel layer as groups and logins use it."""
