"""What a run was made from: source revision, environment, data version."""
