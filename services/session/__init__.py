"""The session service: the life of a conversation, who waits, and which agent answers."""
