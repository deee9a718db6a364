"""Measurements: models and codecs compared on clips, and what was found as plain facts."""
