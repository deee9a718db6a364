"""The command line: each command parses words, calls a job, and shows what came of it."""
