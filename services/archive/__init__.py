"""The history of all conversations, stored permanently and read by page."""
