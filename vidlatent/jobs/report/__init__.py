"""Reports as files: HTML, Markdown, CSV, JSON."""
