"""Verify: the ranks of a program against the untouched model, on the same data."""

from superscaler.verify.driver import verify, verify_program
from superscaler.verify.expected import Expected, expect
from superscaler.verify.report import Report, Row, Verdict

__all__ = ["Expected", "Report", "Row", "Verdict", "expect", "verify", "verify_program"]
