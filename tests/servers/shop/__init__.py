"""A Django app that sends to a group from every kind of code in a project."""
