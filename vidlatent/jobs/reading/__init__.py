"""Processes that read videos, so that a codec that crashes or hangs costs one clip and not the whole run."""
