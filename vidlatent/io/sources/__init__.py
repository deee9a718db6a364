"""Where the bytes of a video come from: a disk, a member of a tar, a pipe, an object store."""
