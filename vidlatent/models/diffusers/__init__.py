"""Video VAEs that run through diffusers: a file for each of its classes, and what they share."""
