"""The distributed deployment: workers on Kafka, and how they own, apply and commit."""
