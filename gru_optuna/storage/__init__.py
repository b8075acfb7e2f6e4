"""What is remembered: the database behind every study."""
