"""What mmrun costs, side by side with what is usual: ``make bench``."""
