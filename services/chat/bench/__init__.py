"""Measurements of chat; nothing here runs in the service."""
