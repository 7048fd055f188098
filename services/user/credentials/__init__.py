"""Passwords and secrets, and limits on guessing them."""
