"""A study in memory, kept in step with the database."""
