"""Whole datasets into latents: an entry is a pure function of its key, the manifest says what is true."""
