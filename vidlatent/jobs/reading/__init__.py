"""Processes that read videos, tables and tars: what crashes or hangs costs one clip, not the whole run."""
