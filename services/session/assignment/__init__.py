"""Who waits, and which agent gets which session."""
