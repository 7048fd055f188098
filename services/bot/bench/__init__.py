"""Measurements of the bot; nothing here runs in the service."""
