"""Two reports compared, and gates for CI: the verdict as table, JUnit, Markdown, annotations."""
