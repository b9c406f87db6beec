"""Parallelize: a decorator that makes one script train on one process or on many."""

from superscaler.parallelize.step import ParallelStep, parallelize

__all__ = ["ParallelStep", "parallelize"]
