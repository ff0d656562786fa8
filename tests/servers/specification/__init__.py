"""The eight usage examples of the specification, unchanged except for their import lines."""
