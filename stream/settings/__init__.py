"""What can be configured: each setting with its unit, bounds, default and meaning."""
