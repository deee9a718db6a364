"""One verb per file: files and tensors together."""
