"""What the data looks like: statistics, language embeddings, reports."""
