"""Clients of the platform, as a shop's app or an agent's page would be: they know the edge and the contracts."""
