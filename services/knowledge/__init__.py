"""Store a shop's FAQ, and search it by meaning."""
