"""Writing: frames with their times become films, folders of images and pipes."""
