"""What is tried next: spaces, samplers, pruners and the study they work on."""
