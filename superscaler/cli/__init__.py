"""The command line: `superscaler trace | axes | compile | verify | launch | show`."""

from superscaler.cli.app import app, main

__all__ = ["app", "main"]
