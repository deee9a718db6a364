"""`python -m vidlatent` is the command line."""

from vidlatent.cli.app import main

main()
