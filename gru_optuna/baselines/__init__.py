"""Simple models that are fitted to a study's own training rows, to be compared with its GRU."""
