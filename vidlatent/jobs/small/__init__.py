"""Latents stored as small as a given loss allows: steps are chosen, and what they cost is measured."""
