"""Access and refresh tokens, the keys that sign them, and taking them back."""
