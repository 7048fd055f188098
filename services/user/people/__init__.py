"""Users of a shop, from visitors to staff: made, changed, listed, merged and purged."""
