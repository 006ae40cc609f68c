"""A modality that mmrun knows nothing of."""
