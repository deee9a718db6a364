"""The `.latent` container: what its bytes are, read and written."""
