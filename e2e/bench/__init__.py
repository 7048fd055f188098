"""`make bench`: how fast messages are delivered through the whole platform, and what that costs."""
