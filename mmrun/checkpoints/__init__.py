"""Saved steps: manifests, references, retention, publishing and restoring."""
