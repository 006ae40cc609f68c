"""The multimodal embedder and how one is built."""
