"""Kinds of input: one module each, found by entry point."""
