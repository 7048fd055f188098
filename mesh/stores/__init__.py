"""The stores that the services keep their data in: PostgreSQL for what is true, Valkey for what is live."""
