"""Keep what a shop knows, and finds it by meaning."""
