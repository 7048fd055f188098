"""The stores of the services: PostgreSQL for durable data, Valkey for live state."""
