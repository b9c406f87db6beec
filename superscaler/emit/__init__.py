"""From a materialized program to the text of its Python files, and back for validation."""
