"""The control process: one registry and one xDS feed for the services and for Envoy."""
