"""Where runs are recorded: MLflow, the metric journal, attempts and the lease."""
