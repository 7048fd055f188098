"""Measurements behind the numbers in the bot's rules."""
