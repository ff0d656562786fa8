"""The eight usage examples of the specification, as they stand there: only the import lines differ."""
