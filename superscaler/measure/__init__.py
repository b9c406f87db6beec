"""Measure: what kernels and steps take on a real machine."""
