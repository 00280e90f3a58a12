"""A model becomes vectors."""
