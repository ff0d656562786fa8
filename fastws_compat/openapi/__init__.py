"""The place where FastAPI keeps the data that its security classes carry."""
