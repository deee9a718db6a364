"""The `.latent` container: the layout of its bytes, its reader and its writer."""
