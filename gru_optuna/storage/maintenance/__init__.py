"""Checking, copying and backing up a database."""
