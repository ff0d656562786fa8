"""What the project's routes are: the one description that checks, commands and templates read."""
