"""Assignment: the queue of waiting sessions, and which agent gets which one."""
