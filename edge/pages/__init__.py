"""Serves the web pages, and plays the demo shops' own servers."""
