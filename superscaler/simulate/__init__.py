"""Simulate: the timeline and the memory of a program on a cluster."""
