"""Latents read back for training."""
