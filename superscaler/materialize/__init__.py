"""Dependency preserving: from layouts to the communication between them."""
