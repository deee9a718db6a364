"""Files in and out: videos and latents. Knows nothing of networks."""
