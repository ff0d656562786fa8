"""A Django app that sends to a group from every place of a project where code can stand."""
