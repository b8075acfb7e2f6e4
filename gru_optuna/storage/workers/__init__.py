"""Who works on a study, and on which trials."""
