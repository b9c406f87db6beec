"""`python -m superscaler.cli` is `superscaler`."""

from superscaler.cli import main

main()
