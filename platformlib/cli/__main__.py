"""`python -m platformlib.cli`."""

from platformlib.cli.app import main

main()
