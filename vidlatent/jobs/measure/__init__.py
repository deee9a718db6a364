"""Measurements of models and codecs on clips, and what was found, as plain facts."""
