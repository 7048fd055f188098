"""The servers that come as wheels: PostgreSQL, Valkey, NATS. Each knows its settings file, command and readiness."""
