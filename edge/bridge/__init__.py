"""WebSocket to `Converse` and back."""
