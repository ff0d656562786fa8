"""Threads for sync code, and the database connections in them."""
