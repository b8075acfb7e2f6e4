"""How our own tables are made and changed: one script in ``versions/`` a change, never edited."""
