"""Live voting: votes are queued in Redis, counted in Postgres and pushed to subscribers."""

from voting.deferred_package import defer

defer("redis")  # docs/decisions/0031-cold-start.md
