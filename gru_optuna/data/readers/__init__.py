"""Reads files as they are: tables, sequences, and the values of their fields."""
