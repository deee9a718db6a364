"""Video out: frames with their times become files, folders and pipes."""
