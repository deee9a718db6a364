"""Forms in which latents are stored smaller than as floats, a file for each."""
