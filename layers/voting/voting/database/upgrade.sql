-- Earlier releases kept the tally and the fence in the schema of `votes`. If such tables exist and are ours, this runs
-- before schema.sql, in its transaction, and moves them into our own schema. Views take their place, since a run of such
-- a release may be in progress or be started again: all runs then share one fence and one tally.

-- One of them may have been dropped by hand.
CREATE TABLE IF NOT EXISTS {there}.vote_tally (vote VARCHAR(255) PRIMARY KEY, votes BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS {there}.vote_tally_version (
    one BOOLEAN PRIMARY KEY DEFAULT true CHECK (one), version BIGINT NOT NULL
);
CREATE TABLE IF NOT EXISTS {there}.vote_worker_fence (
    one BOOLEAN PRIMARY KEY DEFAULT true CHECK (one), token BIGINT NOT NULL
);

-- A run holds the fence, then writes `votes`; a writer holds `votes`, then the version; a reader the version, then the
-- tally. In another order this would deadlock.
LOCK TABLE {there}.vote_worker_fence IN ACCESS EXCLUSIVE MODE;
DO $$
BEGIN
    IF to_regclass({votes_name}) IS NOT NULL THEN
        LOCK TABLE {votes} IN SHARE ROW EXCLUSIVE MODE;
    END IF;
END
$$;
LOCK TABLE {there}.vote_tally_version IN ACCESS EXCLUSIVE MODE;
LOCK TABLE {there}.vote_tally IN ACCESS EXCLUSIVE MODE;

-- Including the triggers that use them. They run as us with a search path in which other roles may create.
DROP FUNCTION IF EXISTS {there}.vote_tally_lock() CASCADE;
DROP FUNCTION IF EXISTS {there}.vote_tally_apply() CASCADE;
DROP FUNCTION IF EXISTS {there}.vote_tally_moved();

DO $$
DECLARE
    granted text[];
    statement text;
BEGIN
    -- An earlier release was started again and found nothing of its own. Neither the version nor the token decreases.
    IF to_regclass({ours_name} || '.vote_worker_fence') IS NOT NULL THEN
        UPDATE {there}.vote_tally_version
        SET version = greatest(version, (SELECT max(ours.version) FROM {ours}.vote_tally_version AS ours));
        UPDATE {there}.vote_worker_fence
        SET token = greatest(token, (SELECT max(ours.token) FROM {ours}.vote_worker_fence AS ours));
    END IF;
    DROP TABLE IF EXISTS {ours}.vote_tally, {ours}.vote_tally_version, {ours}.vote_worker_fence;

    -- Roles that could read and write the tables may read and write the views.
    granted := ARRAY(
        SELECT format(
            'GRANT %s ON %s.%I TO %s', privilege_type, {there_name}::text, relname,
            CASE grantee WHEN 0::oid THEN 'PUBLIC' ELSE grantee::regrole::text END
        )
        FROM pg_class, aclexplode(relacl)
        WHERE relnamespace = to_regnamespace({there_name})::oid AND grantee <> relowner
          AND relname = ANY (ARRAY['vote_tally', 'vote_tally_version', 'vote_worker_fence']::name[])
          AND privilege_type = ANY (ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']::text[])
    );
    ALTER TABLE {there}.vote_tally SET SCHEMA {ours};
    ALTER TABLE {there}.vote_tally_version SET SCHEMA {ours};
    ALTER TABLE {there}.vote_worker_fence SET SCHEMA {ours};
    ALTER TABLE {ours}.vote_worker_fence
        ADD COLUMN IF NOT EXISTS compared_at TIMESTAMPTZ NOT NULL DEFAULT '-infinity',
        ADD COLUMN IF NOT EXISTS comparing_took INTERVAL NOT NULL DEFAULT '0',
        ADD COLUMN IF NOT EXISTS compared_shape TEXT NOT NULL DEFAULT '',
        ADD COLUMN IF NOT EXISTS compared_writes TEXT NOT NULL DEFAULT '';
    CREATE VIEW {there}.vote_tally AS SELECT vote, votes FROM {ours}.vote_tally;
    CREATE VIEW {there}.vote_tally_version AS SELECT one, version FROM {ours}.vote_tally_version;
    CREATE VIEW {there}.vote_worker_fence AS
        SELECT one, token, compared_at, comparing_took, compared_shape, compared_writes FROM {ours}.vote_worker_fence;
    FOREACH statement IN ARRAY granted LOOP
        EXECUTE statement;
    END LOOP;
END
$$;

-- An earlier release calls it. Its names are bound now, so that no search path finds other objects.
CREATE FUNCTION {there}.vote_tally_moved() RETURNS void LANGUAGE sql BEGIN ATOMIC
    UPDATE {ours}.vote_tally_version
    SET version = greatest(version + 1::bigint, (extract(epoch FROM clock_timestamp()) * 1000::numeric)::bigint);
END;
