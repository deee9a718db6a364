"""Sound: copied from file to file packet by packet, and re-encoded only where it must be."""
