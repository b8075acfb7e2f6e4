"""What is recorded of a study, and how it is created, resumed and read back."""
