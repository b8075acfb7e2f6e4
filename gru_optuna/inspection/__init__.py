"""What a file is, before anything is trained."""
