"""Video in: files, folders and pipes become frames with their times."""
