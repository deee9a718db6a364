"""`python -m vidlatent` is the command line."""

import sys

try:
    from vidlatent.cli.app import main
except KeyboardInterrupt:  # Ctrl-C before anything has begun
    sys.exit(130)

main()
