"""Everything that touches the Hugging Face Trainer."""
