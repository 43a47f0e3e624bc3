"""Pages: each fetches, decides and renders."""
