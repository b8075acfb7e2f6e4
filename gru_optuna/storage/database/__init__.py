"""Opening databases: SQLite and PostgreSQL, their tables and migrations."""
