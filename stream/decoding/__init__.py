"""From the bytes of a record to a checked event, or to a rejection that names the field."""
