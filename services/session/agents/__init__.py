"""Who is on duty: the people who answer."""
