"""Pipelines: what is written for them, and what their replies mean. Nothing here is sent."""
