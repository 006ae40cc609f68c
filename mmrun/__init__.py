"""Training runs that survive being killed, recorded as one unbroken MLflow run."""

__version__ = "0.1.0"
__all__ = ["__version__"]
