-- The table of the contract, the tally that triggers keep beside it, and the fence of the worker's runs.
-- Run in one transaction, by the first run that finds anything of it missing; everything here may run again.

-- Only the login may create anything, whatever role its session has taken.
SET LOCAL ROLE NONE;

-- A large table takes longer to count than a statement may otherwise. A run has 120 s, and ends in time.
SET LOCAL statement_timeout = '90s';

-- Two first runs at once: the second waits, then finds everything there.
SELECT pg_advisory_xact_lock(hashtext('voting schema'));

-- SECURITY DEFINER functions below keep the search path that is in force now: the schema of the table, nothing else.
SELECT set_config(
    'search_path',
    coalesce(
        (SELECT quote_ident(nspname) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
         WHERE pg_class.oid = to_regclass('votes')),
        quote_ident(current_schema())
    ) || ', pg_temp',
    true
);

-- An existing table is never altered; its indexes are an operator's step, since building them may take minutes.
DO $$
BEGIN
    IF to_regclass('votes') IS NULL THEN
        CREATE TABLE votes (id VARCHAR(255) NOT NULL UNIQUE, vote VARCHAR(255) NOT NULL);
        CREATE UNIQUE INDEX idx_votes_id ON votes (id);
        CREATE INDEX idx_votes_vote ON votes (vote);
        -- Without it, every UPDATE fails as soon as a publication covers the table: blue/green deployments and change
        -- data capture make one.
        ALTER TABLE votes REPLICA IDENTITY USING INDEX idx_votes_id;
    END IF;
END
$$;

-- Votes by choice, as committed. A choice is known by its first 255 characters: `votes` may be another's table, whose
-- column holds longer texts than an index takes. None of ours is longer.
CREATE TABLE IF NOT EXISTS vote_tally (
    vote VARCHAR(255) PRIMARY KEY,
    votes BIGINT NOT NULL
);

-- One row: the version of the tally, and the lock that serializes its writers.
CREATE TABLE IF NOT EXISTS vote_tally_version (
    one BOOLEAN PRIMARY KEY DEFAULT true CHECK (one),
    version BIGINT NOT NULL
);
INSERT INTO vote_tally_version (version) VALUES (0) ON CONFLICT DO NOTHING;

-- One row: the token of the worker's newest run; and the last comparison of the tally with the rows: when it was and how
-- long it took, what the tables looked like and what had been written to them, see comparison.py.
CREATE TABLE IF NOT EXISTS vote_worker_fence (
    one BOOLEAN PRIMARY KEY DEFAULT true CHECK (one),
    token BIGINT NOT NULL
);
ALTER TABLE vote_worker_fence
    ADD COLUMN IF NOT EXISTS compared_at TIMESTAMPTZ NOT NULL DEFAULT '-infinity',
    ADD COLUMN IF NOT EXISTS comparing_took INTERVAL NOT NULL DEFAULT '0',
    ADD COLUMN IF NOT EXISTS compared_shape TEXT NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS compared_writes TEXT NOT NULL DEFAULT '';
INSERT INTO vote_worker_fence (token) VALUES (0) ON CONFLICT DO NOTHING;

-- Versions only grow, also over a restored database: the clock is ahead of whatever was shown before the restore.
CREATE OR REPLACE FUNCTION vote_tally_moved() RETURNS void LANGUAGE sql AS $$
    UPDATE vote_tally_version
    SET version = greatest(version + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
$$;

-- Before any row is locked, writers of the table queue up here. Taken after the rows, this lock would deadlock.
CREATE OR REPLACE FUNCTION vote_tally_lock() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM 1 FROM vote_tally_version FOR UPDATE;
    RETURN NULL;
END
$$;

-- Apply what a statement changed. SECURITY DEFINER, since the old worker's role may write `votes` and nothing else.
-- No writer that did well without us may fail here, whatever the column `vote` holds: it may be an enum or a number,
-- and a NULL is no choice. Texts are told apart byte by byte, for citext and some collations take two for one.
CREATE OR REPLACE FUNCTION vote_tally_apply() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO vote_tally AS tally
        SELECT choice, count(*)
        FROM (SELECT vote::varchar(255) COLLATE "C" AS choice FROM new_votes) AS changes
        GROUP BY choice
        HAVING choice IS NOT NULL
        ON CONFLICT (vote) DO UPDATE SET votes = tally.votes + EXCLUDED.votes;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO vote_tally AS tally
        SELECT choice, -count(*)
        FROM (SELECT vote::varchar(255) COLLATE "C" AS choice FROM old_votes) AS changes
        GROUP BY choice
        HAVING choice IS NOT NULL
        ON CONFLICT (vote) DO UPDATE SET votes = tally.votes + EXCLUDED.votes;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO vote_tally AS tally
        SELECT choice, sum(change)
        FROM (
            SELECT vote::varchar(255) COLLATE "C" AS choice, count(*) AS change FROM new_votes GROUP BY choice
            UNION ALL
            SELECT vote::varchar(255) COLLATE "C" AS choice, -count(*) FROM old_votes GROUP BY choice
        ) AS changes
        GROUP BY choice
        HAVING choice IS NOT NULL AND sum(change) <> 0
        ON CONFLICT (vote) DO UPDATE SET votes = tally.votes + EXCLUDED.votes;
    ELSE
        DELETE FROM vote_tally;
    END IF;
    IF FOUND THEN
        PERFORM vote_tally_moved();
    END IF;
    RETURN NULL;
END
$$;

-- From here to the commit nobody writes, so that the triggers and the count that follows see the same table.
LOCK TABLE votes IN SHARE ROW EXCLUSIVE MODE;

CREATE OR REPLACE TRIGGER vote_tally_before BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON votes
    FOR EACH STATEMENT EXECUTE FUNCTION vote_tally_lock();
CREATE OR REPLACE TRIGGER vote_tally_insert AFTER INSERT ON votes
    REFERENCING NEW TABLE AS new_votes FOR EACH STATEMENT EXECUTE FUNCTION vote_tally_apply();
CREATE OR REPLACE TRIGGER vote_tally_update AFTER UPDATE ON votes
    REFERENCING OLD TABLE AS old_votes NEW TABLE AS new_votes FOR EACH STATEMENT EXECUTE FUNCTION vote_tally_apply();
CREATE OR REPLACE TRIGGER vote_tally_delete AFTER DELETE ON votes
    REFERENCING OLD TABLE AS old_votes FOR EACH STATEMENT EXECUTE FUNCTION vote_tally_apply();
CREATE OR REPLACE TRIGGER vote_tally_truncate AFTER TRUNCATE ON votes
    FOR EACH STATEMENT EXECUTE FUNCTION vote_tally_apply();
