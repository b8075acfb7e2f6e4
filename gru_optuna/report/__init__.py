"""A study read back: numbers (``summary``, ``numbers``), figures, a page."""
