"""What reading and writing share about pictures: size, colour, orientation, times."""
