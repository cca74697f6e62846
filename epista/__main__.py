"""``python -m epista`` is the command line."""

from epista.cli import main

main()
