"""What may not be said in a shop's conversations, and what was found of it."""
