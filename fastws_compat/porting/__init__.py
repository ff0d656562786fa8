"""Ported code: names that are elsewhere here, and objects of FastAPI and Starlette that were left behind."""
