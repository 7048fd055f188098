"""Real PostgreSQL, Valkey and NATS for tests.

The plugin `mesh.testing.plugin` gives every test two session-scoped fixtures; components start once, on free ports, in
a temporary folder, and end with pytest even when it is killed:

    async def test_something(platform: Platform) -> None:
        config = platform.config("session")              # a ServiceConfig for the real components
        config = platform.config("chat", ChatConfig, rate_per_minute=5)
        platform.identity                                # folder with ca.pem and every name's certificate
        platform.authority.issue("chat")                 # rotates a certificate
        await platform.nats.restart()                    # also .kill(), .start(), .stop(), .pause(), .resume()
        await platform.postgres.kill()                   # kill -9; .conninfo is where it is
        await platform.valkey.wipe()

    async def test_rows(migrated: Platform) -> None:     # the same, with all of db/migrations applied
        await migrated.postgres.truncate()               # empties every cs_ table

A server of a test's own listens on `mesh.testing.ports.free_port()`.

All tests of a session (of a worker, where there are several) share the components: use tenants, sessions and durables
of your own, or wipe first (`await platform.nats.wipe()` deletes every stream and bucket).
"""

from mesh.testing.platform import Platform

__all__ = ["Platform"]
