"""Whole datasets into latents: an entry follows from its key alone, and the manifest says what is there."""
