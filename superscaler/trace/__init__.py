"""Trace: a training step, a model and an optimizer become one Graph."""

from superscaler.trace.step import trace

__all__ = ["trace"]
