"""`python -m lamppost_tools`: the same as the `lamppost` command."""

from lamppost_tools.cli import main

main()
