"""What the package does, a verb in each file: from files to files, through models."""
