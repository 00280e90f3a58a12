"""The result as a file, a table and a page."""
