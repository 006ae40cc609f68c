"""The kinds of data that ``mmrun demo data`` makes, one module each."""
