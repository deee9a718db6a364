"""Sound, carried from file to file as the packets that it is."""
