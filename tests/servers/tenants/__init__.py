"""A database backend with a tenant per thread, like that of django-tenants."""
