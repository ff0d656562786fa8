"""The description of the project's routes that checks, commands and templates read."""
