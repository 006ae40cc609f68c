"""What ``mmrun doctor`` looks at: a module for each kind of thing that may not work."""
