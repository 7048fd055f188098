"""The way in from outside: Envoy's configuration, the WebSocket bridge and the web pages."""
