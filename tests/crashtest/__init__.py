"""Kills at random: `make crashtest N=50 SEED=1`."""
