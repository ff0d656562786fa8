"""Integrations with other packages; each module needs the optional extra of the same name."""
