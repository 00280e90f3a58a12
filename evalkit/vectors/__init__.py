"""Feature files, embeddings made elsewhere, and the readers of both."""
