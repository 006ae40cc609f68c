"""What `mmrun checkpoints` does: list, pull, verify, prune, pin, average."""
