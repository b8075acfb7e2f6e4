"""A study from its file to a confirmed winner and its bundle."""
