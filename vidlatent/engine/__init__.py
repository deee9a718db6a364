"""Windows × tiles × state: tensors only, no files."""
