-- Creates the table of the contract and, in a schema of our own, the tally that triggers keep and the fence of the
-- worker's runs. installation.py fills in the names and runs it in one transaction; it is safe to run again.

-- An existing table is never altered. Its indexes are left to an operator, since building them may take minutes.
DO $$
BEGIN
    IF to_regclass({votes_name}) IS NULL THEN
        CREATE TABLE {votes} (id VARCHAR(255) NOT NULL UNIQUE, vote VARCHAR(255) NOT NULL);
        CREATE UNIQUE INDEX idx_votes_id ON {votes} (id);
        CREATE INDEX idx_votes_vote ON {votes} (vote);
        -- Without it, every UPDATE fails once a publication covers the table, as blue/green deployments and change data
        -- capture create one.
        ALTER TABLE {votes} REPLICA IDENTITY USING INDEX idx_votes_id;
    END IF;
END
$$;

-- Committed votes by choice. A choice is identified by its first 255 characters: `votes` may be a foreign table, whose
-- column holds longer texts than an index can. None of our choices is longer.
CREATE TABLE IF NOT EXISTS {ours}.vote_tally (
    vote VARCHAR(255) PRIMARY KEY,
    votes BIGINT NOT NULL
);

-- One row: the version of the tally, and the lock that serializes its writers.
CREATE TABLE IF NOT EXISTS {ours}.vote_tally_version (
    one BOOLEAN PRIMARY KEY DEFAULT true CHECK (one),
    version BIGINT NOT NULL
);
INSERT INTO {ours}.vote_tally_version (version) VALUES (0) ON CONFLICT DO NOTHING;

-- One row: the token of the newest run of the worker, and the last comparison of the tally with the rows: when it was,
-- how long it took, what the tables looked like and what had been written to them (comparison.py).
CREATE TABLE IF NOT EXISTS {ours}.vote_worker_fence (
    one BOOLEAN PRIMARY KEY DEFAULT true CHECK (one),
    token BIGINT NOT NULL
);
ALTER TABLE {ours}.vote_worker_fence
    ADD COLUMN IF NOT EXISTS compared_at TIMESTAMPTZ NOT NULL DEFAULT '-infinity',
    ADD COLUMN IF NOT EXISTS comparing_took INTERVAL NOT NULL DEFAULT '0',
    ADD COLUMN IF NOT EXISTS compared_shape TEXT NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS compared_writes TEXT NOT NULL DEFAULT '';
INSERT INTO {ours}.vote_worker_fence (token) VALUES (0) ON CONFLICT DO NOTHING;

-- The functions below run with the rights of our login, whichever role writes `votes`. So they may only call built-in
-- functions: the search path holds only the built-in schema, and our tables are named with theirs.

-- Writers of the table queue here before they lock any row. Taken after the rows, this lock would deadlock.
CREATE OR REPLACE FUNCTION {ours}.vote_tally_lock() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM 1 FROM {ours}.vote_tally_version FOR UPDATE;
    RETURN NULL;
END
$$;

-- Applies the changes of a statement. SECURITY DEFINER, since the old worker's role may write `votes` and nothing else.
-- A write that succeeds without us must not fail here, whatever the column `vote` holds: it may be an enum or a number,
-- and NULL is not a choice. Texts are compared byte by byte, since citext and some collations treat different texts as
-- equal. The version only grows, even after a restore: the clock is ahead of every version shown before.
CREATE OR REPLACE FUNCTION {ours}.vote_tally_apply() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kind oid;
    changed bigint;
BEGIN
    -- The owner of a type that is not built in may have created a cast to varchar, which would run as us. Even in a
    -- branch that is not taken, the planner may evaluate a constant part of the cast. A domain is cast as its base
    -- type.
    SELECT atttypid INTO kind FROM pg_attribute WHERE attrelid = TG_RELID AND attname = 'vote'::name;
    WHILE kind >= 16384::oid AND EXISTS (SELECT FROM pg_type WHERE oid = kind AND typtype = 'd'::"char") LOOP
        SELECT typbasetype INTO kind FROM pg_type WHERE oid = kind;
    END LOOP;
    IF TG_OP = 'TRUNCATE' THEN
        DELETE FROM {ours}.vote_tally;
    ELSIF kind >= 16384::oid THEN
        -- As PostgreSQL prints the value, by functions that only a superuser may create.
        EXECUTE 'INSERT INTO ' || {ours_name}::text || '.vote_tally AS tally SELECT choice, sum(change)::bigint FROM ('
            || concat_ws(
                ' UNION ALL ',
                CASE WHEN TG_OP <> 'DELETE' THEN 'SELECT vote, 1::bigint AS change FROM new_votes' END,
                CASE WHEN TG_OP <> 'INSERT' THEN 'SELECT vote, -1::bigint AS change FROM old_votes' END
            )
            || ') AS changes CROSS JOIN LATERAL (SELECT format(''%s'', vote)::varchar(255) COLLATE "C") AS made (choice)'
            || ' WHERE num_nonnulls(vote) = 1 GROUP BY choice HAVING sum(change) <> 0::numeric'
            || ' ON CONFLICT (vote) DO UPDATE SET votes = tally.votes + EXCLUDED.votes';
    ELSIF TG_OP = 'INSERT' THEN
        INSERT INTO {ours}.vote_tally AS tally
        SELECT choice, count(*)
        FROM (SELECT vote::varchar(255) COLLATE "C" AS choice FROM new_votes) AS changes
        GROUP BY choice
        HAVING choice IS NOT NULL
        ON CONFLICT (vote) DO UPDATE SET votes = tally.votes + EXCLUDED.votes;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO {ours}.vote_tally AS tally
        SELECT choice, -count(*)
        FROM (SELECT vote::varchar(255) COLLATE "C" AS choice FROM old_votes) AS changes
        GROUP BY choice
        HAVING choice IS NOT NULL
        ON CONFLICT (vote) DO UPDATE SET votes = tally.votes + EXCLUDED.votes;
    ELSE
        INSERT INTO {ours}.vote_tally AS tally
        SELECT choice, sum(change)::bigint
        FROM (
            SELECT vote::varchar(255) COLLATE "C" AS choice, count(*) AS change FROM new_votes GROUP BY choice
            UNION ALL
            SELECT vote::varchar(255) COLLATE "C" AS choice, -count(*) FROM old_votes GROUP BY choice
        ) AS changes
        GROUP BY choice
        HAVING choice IS NOT NULL AND sum(change) <> 0::numeric
        ON CONFLICT (vote) DO UPDATE SET votes = tally.votes + EXCLUDED.votes;
    END IF;
    GET DIAGNOSTICS changed = ROW_COUNT;
    IF changed > 0::bigint THEN
        UPDATE {ours}.vote_tally_version
        SET version = greatest(version + 1::bigint, (extract(epoch FROM clock_timestamp()) * 1000::numeric)::bigint);
    END IF;
    RETURN NULL;
END
$$;

-- No other role may use them in a trigger on its own table, whose rows the tally would then count.
REVOKE ALL ON FUNCTION {ours}.vote_tally_lock(), {ours}.vote_tally_apply() FROM PUBLIC;

-- Writers are locked out until the commit, so that the triggers and the count that follows see the same table.
LOCK TABLE {votes} IN SHARE ROW EXCLUSIVE MODE;

CREATE OR REPLACE TRIGGER vote_tally_before BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {votes}
    FOR EACH STATEMENT EXECUTE FUNCTION {ours}.vote_tally_lock();
CREATE OR REPLACE TRIGGER vote_tally_insert AFTER INSERT ON {votes}
    REFERENCING NEW TABLE AS new_votes FOR EACH STATEMENT EXECUTE FUNCTION {ours}.vote_tally_apply();
CREATE OR REPLACE TRIGGER vote_tally_update AFTER UPDATE ON {votes}
    REFERENCING OLD TABLE AS old_votes NEW TABLE AS new_votes
    FOR EACH STATEMENT EXECUTE FUNCTION {ours}.vote_tally_apply();
CREATE OR REPLACE TRIGGER vote_tally_delete AFTER DELETE ON {votes}
    REFERENCING OLD TABLE AS old_votes FOR EACH STATEMENT EXECUTE FUNCTION {ours}.vote_tally_apply();
CREATE OR REPLACE TRIGGER vote_tally_truncate AFTER TRUNCATE ON {votes}
    FOR EACH STATEMENT EXECUTE FUNCTION {ours}.vote_tally_apply();
