"""`python -m vidlatent` is the command line, and so is `vidlatent`."""

import sys


def start() -> None:
    """Import the command line and run it; Ctrl-C is heard while that is imported, too."""
    try:
        from vidlatent.cli.app import main
    except KeyboardInterrupt:
        print("interrupted: nothing has begun", file=sys.stderr)
        sys.exit(130)
    main()


if __name__ == "__main__":
    start()
