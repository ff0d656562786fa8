"""Help with ported code: names that moved, and objects of FastAPI and Starlette that were not replaced."""
