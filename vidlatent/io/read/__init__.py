"""Reading: video files, images, folders of images and pipes become frames with their times."""
