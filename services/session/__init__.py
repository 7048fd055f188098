"""Session: owns the life of a conversation: who takes part, who waits, who answers."""
