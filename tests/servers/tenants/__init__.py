"""A database backend with a tenant per thread, as django-tenants has one."""
