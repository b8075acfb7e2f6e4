"""The database that holds every study."""
