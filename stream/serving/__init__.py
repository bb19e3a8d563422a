"""Recommendations: which model, whose history, which items, and with what probability."""
