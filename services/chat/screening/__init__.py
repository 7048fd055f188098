"""Screens texts for a shop's sensitive words before they are stored."""
