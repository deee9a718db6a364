"""What the package carries: weights and a sample clip, each with its licence beside it."""
