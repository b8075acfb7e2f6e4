"""A first study: a drafted study file in a new workspace."""
