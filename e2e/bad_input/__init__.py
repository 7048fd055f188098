"""What a careless or hostile client may send: each gets a reason, harms nobody else, and leaves no trace in a log."""
