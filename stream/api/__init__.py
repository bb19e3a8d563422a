"""HTTP door of the service."""
