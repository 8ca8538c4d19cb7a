"""`python -m openbook` is the `openbook` command."""

from openbook.cli.app import main

main()
