"""Carries the conversations: streams, the durable log, delivery."""
