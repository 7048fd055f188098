"""Every conversation, kept for good and read by page."""
