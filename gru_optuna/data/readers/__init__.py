"""Files as they are: tables, sequences, and what their fields hold."""
