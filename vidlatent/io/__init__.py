"""Reading and writing videos and latents. Nothing here knows of networks."""
