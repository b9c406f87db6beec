"""`python -m superscaler` is `superscaler`."""

from superscaler.cli import main

main()
