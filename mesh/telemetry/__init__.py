"""Logs, traces and metrics of a process.

```
configure_logging(config.name, config.instance, config.log_level)
async with tracing(config), metrics(config.metrics_port) as port: ...
```
`spans` puts gRPC calls into traces. None of it ever carries personal data or tokens; `disclosure` says how.
"""
