"""Live voting: votes are queued in Redis, counted in Postgres and pushed to subscribers."""
