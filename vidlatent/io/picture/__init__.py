"""What a picture is, whoever reads or writes it: size, colour, orientation, times."""
