"""Serves the web pages, the widget and the published contracts."""
