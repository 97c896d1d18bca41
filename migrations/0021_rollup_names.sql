-- Rollups have the names that docs/glossary.md gives them. The former names are views of the tables, so an older
-- program that is still running goes on: it reads and writes through the views. An older program does not start again
-- after this migration, because the schema is newer than it knows. An older 'codexflow adopt --discard-history' fails
-- and changes nothing, because TRUNCATE takes no view. A later migration may drop the views.

-- A worker locks the watermark before any rollup, and so does this.
ALTER TABLE metering.usage_cursor RENAME TO rollup_watermark;
ALTER TABLE metering.usage_quarters RENAME TO rollup_15m;
ALTER TABLE metering.usage_days RENAME TO rollup_day;
ALTER TABLE metering.usage_spans RENAME TO rollup_span;
ALTER TABLE metering.usage_dimensions RENAME TO rollup_dimension;

ALTER TABLE metering.rollup_watermark RENAME COLUMN settled_log_id TO commit_horizon;
ALTER TABLE metering.rollup_watermark RENAME COLUMN settled_snapshot TO horizon_snapshot;
ALTER TABLE metering.rollup_watermark RENAME COLUMN marked_log_id TO next_horizon;
ALTER TABLE metering.rollup_watermark RENAME COLUMN marked_transactions TO awaited_transactions;
ALTER TABLE metering.rollup_watermark RENAME COLUMN days_before TO day_boundary;

ALTER SEQUENCE metering.usage_dimensions_dimension_seq RENAME TO rollup_dimension_dimension_seq;
ALTER INDEX metering.usage_quarters_time RENAME TO rollup_15m_time;
ALTER INDEX metering.usage_days_time RENAME TO rollup_day_time;
ALTER TABLE metering.rollup_watermark RENAME CONSTRAINT usage_cursor_pkey TO rollup_watermark_pkey;
ALTER TABLE metering.rollup_15m RENAME CONSTRAINT usage_quarters_pkey TO rollup_15m_pkey;
ALTER TABLE metering.rollup_day RENAME CONSTRAINT usage_days_pkey TO rollup_day_pkey;
ALTER TABLE metering.rollup_span RENAME CONSTRAINT usage_spans_pkey TO rollup_span_pkey;
ALTER TABLE metering.rollup_dimension RENAME CONSTRAINT usage_dimensions_pkey TO rollup_dimension_pkey;
ALTER TABLE metering.rollup_watermark
    RENAME CONSTRAINT usage_cursor_singleton_check TO rollup_watermark_singleton_check;
ALTER TABLE metering.rollup_dimension
    RENAME CONSTRAINT usage_dimensions_model_provider_status_plan_is_self_reporte_key TO rollup_dimension_is_unique;

COMMENT ON TABLE metering.rollup_watermark IS
    'One row: the positions up to which logs are rolled up, the commit horizon, and the day boundary.';
COMMENT ON COLUMN metering.rollup_watermark.event_log_id IS 'Events up to this position are rolled up.';
COMMENT ON COLUMN metering.rollup_watermark.other_log_id IS 'Logs without an event up to this position are rolled up.';
COMMENT ON COLUMN metering.rollup_watermark.commit_horizon IS
    'No transaction can still commit a log up to this position.';
COMMENT ON COLUMN metering.rollup_watermark.horizon_snapshot IS
    'What was committed when the commit horizon was set. It shows each log that is rolled up.';
COMMENT ON COLUMN metering.rollup_watermark.next_horizon IS
    'The commit horizon when the transactions in awaited_transactions have ended.';
COMMENT ON COLUMN metering.rollup_watermark.awaited_transactions IS 'As pg_locks.virtualtransaction names them.';
COMMENT ON COLUMN metering.rollup_watermark.day_boundary IS
    'The first quarter of an hour since 1970 that is only in rollup_15m.';
COMMENT ON COLUMN metering.rollup_watermark.spans_through IS
    'The event_log_id, other_log_id and day_boundary that rollup_span belongs to.';
COMMENT ON TABLE metering.rollup_15m IS
    'Usage by quarter of an hour, user and dimension; user 0 is all users together.';
COMMENT ON TABLE metering.rollup_day IS
    'Usage by UTC day, user and dimension, of all quarters of an hour before the day boundary.';
COMMENT ON TABLE metering.rollup_span IS
    'Usage by user in 1, 2, 4 ... 256 days, by which users are ranked.';
COMMENT ON TABLE metering.rollup_dimension IS
    'The numbers of model, provider, status, plan and self-reporting in the rollups.';

CREATE VIEW metering.usage_cursor AS
SELECT w.singleton, w.event_log_id, w.other_log_id, w.commit_horizon AS settled_log_id,
       w.next_horizon AS marked_log_id, w.awaited_transactions AS marked_transactions, w.day_boundary AS days_before,
       w.sealed_before, w.passed_at, w.passed_rows, w.pass_ms, w.spans_through, w.horizon_snapshot AS settled_snapshot,
       w.logs_sealed_before
FROM metering.rollup_watermark w;
CREATE VIEW metering.usage_quarters AS SELECT r.* FROM metering.rollup_15m r;
CREATE VIEW metering.usage_days AS SELECT r.* FROM metering.rollup_day r;
CREATE VIEW metering.usage_spans AS SELECT r.* FROM metering.rollup_span r;
CREATE VIEW metering.usage_dimensions AS SELECT r.* FROM metering.rollup_dimension r;

-- Who may use a table may use its view. The columns of each view are in the order of its table.
DO $$
DECLARE
    statement text;
BEGIN
    FOR statement IN
        WITH pair AS (
            SELECT n.present::regclass AS present, n.former::regclass AS former
            FROM (VALUES ('metering.rollup_watermark', 'metering.usage_cursor'),
                         ('metering.rollup_15m', 'metering.usage_quarters'),
                         ('metering.rollup_day', 'metering.usage_days'),
                         ('metering.rollup_span', 'metering.usage_spans'),
                         ('metering.rollup_dimension', 'metering.usage_dimensions')) AS n (present, former)
        ), permitted AS (
            SELECT p.former, a.privilege_type, a.grantee, '' AS columns
            FROM pair p JOIN pg_class c ON c.oid = p.present CROSS JOIN LATERAL aclexplode(c.relacl) a
            WHERE a.grantee <> c.relowner
            UNION ALL
            SELECT p.former, a.privilege_type, a.grantee, format(' (%I)', v.attname)
            FROM pair p JOIN pg_class c ON c.oid = p.present
            JOIN pg_attribute t ON t.attrelid = p.present JOIN pg_attribute v ON v.attrelid = p.former
                AND v.attnum = t.attnum
            CROSS JOIN LATERAL aclexplode(t.attacl) a
            WHERE a.grantee <> c.relowner
        )
        SELECT format('GRANT %s%s ON %s TO %s', p.privilege_type, p.columns, p.former,
                      CASE p.grantee WHEN 0 THEN 'PUBLIC' ELSE p.grantee::regrole::text END)
        FROM permitted p
    LOOP
        EXECUTE statement;
    END LOOP;
END
$$;

-- The two functions that name these tables, as they were in 0018_id_line.sql.
-- The greatest position that was given to an event, or that a watermark has reached.
CREATE OR REPLACE FUNCTION metering.last_position() RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN greatest(
        (SELECT max(e.api_log_id) FROM metering.events e), (SELECT max(w.api_log_id) FROM metering.withdrawn_events w),
        (SELECT greatest(c.event_log_id, c.other_log_id, c.commit_horizon, c.next_horizon)
         FROM metering.rollup_watermark c),
        (SELECT i.counted_log_id FROM metering.installation i), 0);
END
$$;

-- Begins a new epoch if the ids of api_logs began again, and returns whether it did. To be called in a transaction of
-- its own. It acts as its owner, as each program may be the one that notices.
CREATE OR REPLACE FUNCTION metering.begin_id_epoch() RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- Gaps between kept rows that have a segment; the shortest of more have none.
    most_gaps constant integer := 10000;
    xids constant bigint := 4294967296;
    -- The transaction id that is given out next, by which the 32 bits of a row's xmin are completed.
    next_xid bigint;
    file oid;
    last_id bigint;
    end_position bigint;
    watermark metering.rollup_watermark;
    former metering.id_epochs;
    -- Ids of rows that are not kept.
    new_ids bigint[];
    is_reused boolean;
    -- Rows up to this id are kept.
    kept_through bigint;
    kept int8multirange;
    new_shift bigint;
    segments metering.id_segments[];
    seal timestamptz;
    rolled_up numeric;
    last_quarter integer;
BEGIN
    IF pg_is_in_recovery() OR NOT metering.ids_began_again() THEN
        RETURN false;
    END IF;
    -- In this order: a worker's step must not wait for ingest that waits for it.
    PERFORM FROM metering.rollup_watermark FOR UPDATE;
    PERFORM pg_advisory_xact_lock(hashtext('metering.id_line'));
    IF NOT metering.ids_began_again() THEN
        RETURN false;
    END IF;
    file := pg_relation_filenode('public.api_logs_id_seq'::regclass);
    end_position := metering.last_position();
    next_xid := pg_snapshot_xmax(pg_current_snapshot())::text::bigint;
    SELECT s.last_value - CASE WHEN s.is_called THEN 0 ELSE 1 END INTO last_id FROM public.api_logs_id_seq s;
    SELECT k.* INTO former FROM metering.id_epochs k ORDER BY k.epoch DESC LIMIT 1;
    SELECT c.* INTO watermark FROM metering.rollup_watermark c;

    SELECT array_agg(n.id), coalesce(bool_or(n.position <= watermark.commit_horizon OR n.has_event), false)
    INTO new_ids, is_reused
    FROM (
        SELECT max(r.id) FILTER (WHERE r.is_kept AND r.id <= last_id) AS kept_through, bool_or(r.is_kept) AS has_kept,
               array_agg(r.id) FILTER (WHERE NOT r.is_kept) AS ids,
               array_agg(r.position) FILTER (WHERE NOT r.is_kept) AS positions,
               array_agg(r.has_event) FILTER (WHERE NOT r.is_kept) AS have_event
        FROM (
            SELECT l.id, l.position, e.has_event,
                   (l.is_settled IS TRUE OR e.is_its_row IS TRUE) AND l.position <= end_position AS is_kept
            FROM (
                SELECT l.*, least(l.id, 9223372036854775807 - s.shift) + s.shift AS position,
                       pg_visible_in_snapshot(
                           (next_xid - (((next_xid - l.xmin::text::bigint) % xids) + xids) % xids)::text::xid8,
                           watermark.horizon_snapshot) AS is_settled
                FROM metering.id_segments s JOIN public.api_logs l ON l.id > s.after_id AND l.id <= s.through_id
            ) l
            -- The row of an event stands where the event does, whenever it was stored.
            LEFT JOIN LATERAL (
                SELECT count(*) > 0 AS has_event,
                       bool_or(metering.is_row_of_event(
                           l.user_id, l.created_at, l.model::text, l.input_tokens::bigint, l.output_tokens::bigint,
                           l.status::text, e.user_id, e.occurred_at, e.model_group, e.input_tokens, e.output_tokens,
                           e.status)) AS is_its_row
                FROM metering.events e WHERE e.api_log_id = l.position
            ) e ON l.is_settled IS NOT TRUE
        ) r
    ) a CROSS JOIN LATERAL unnest(a.ids, a.positions, a.have_event) AS n (id, position, has_event)
    -- Where rows are kept, there was no TRUNCATE: ids up to the highest of them were not given again, nor were those
    -- that the sequence has not reached. So such a row is one that was changed.
    WHERE n.position > end_position OR NOT a.has_kept OR (n.id > coalesce(a.kept_through, 0) AND n.id <= last_id);

    -- ALTER SEQUENCE for another reason, such as its CACHE: ids go on, and none was given twice.
    IF last_id + former.shift >= end_position AND NOT is_reused THEN
        UPDATE metering.id_epochs k SET sequence_file = file WHERE k.epoch = former.epoch;
        RETURN false;
    END IF;

    kept_through := coalesce(
        (SELECT max(l.id) FROM public.api_logs l
         WHERE l.id > 0 AND l.id < least((SELECT min(n.id) FROM unnest(new_ids) AS n (id)), last_id + 1)), 0);
    WITH later AS MATERIALIZED (
        -- Kept rows whose ids are still ahead of the sequence.
        SELECT k.id, k.id - 1 - lag(k.id, 1, kept_through) OVER (ORDER BY k.id) AS gap
        FROM (SELECT l.id FROM public.api_logs l WHERE l.id > kept_through
              EXCEPT SELECT n.id FROM unnest(new_ids) AS n (id)) k
    ), run AS (
        SELECT l.id, count(*) FILTER (WHERE l.gap > coalesce(
                   (SELECT g.gap FROM later g WHERE g.gap > 0 ORDER BY g.gap DESC OFFSET most_gaps LIMIT 1), 0)
               ) OVER (ORDER BY l.id) AS number
        FROM later l
    )
    SELECT coalesce(range_agg(int8range(i.first, i.last, '[]')), '{}') INTO kept
    FROM (
        SELECT min(r.id) AS first, max(r.id) AS last FROM run r GROUP BY r.number
        UNION ALL
        SELECT 1, kept_through WHERE kept_through > 0
    ) i;
    new_shift := end_position - kept_through;

    segments := ARRAY(SELECT s FROM metering.id_segments s);
    DELETE FROM metering.id_segments;
    INSERT INTO metering.id_segments (after_id, through_id, shift)
    SELECT lower(g.ids) - 1, CASE WHEN upper_inf(g.ids) THEN 9223372036854775807 ELSE upper(g.ids) - 1 END, g.shift
    FROM (
        SELECT k.ids, s.shift
        FROM unnest(segments) s CROSS JOIN LATERAL unnest(kept * int8multirange(int8range(
                 s.after_id + 1, CASE WHEN s.through_id < 9223372036854775807 THEN s.through_id + 1 END))) AS k (ids)
        UNION ALL
        SELECT n.ids, new_shift FROM unnest(int8multirange(int8range(1, NULL)) - kept) AS n (ids)
    ) g;
    INSERT INTO metering.id_epochs (epoch, first_position, shift, began_at, sequence_file)
    VALUES (former.epoch + 1, end_position + 1, new_shift, clock_timestamp(), file);
    -- Nothing can be committed any more at a position of the former epoch.
    UPDATE metering.rollup_watermark
    SET commit_horizon = end_position, next_horizon = NULL, awaited_transactions = NULL;
    UPDATE metering.installation SET highest_log_id = last_id;

    -- Sums of rows that are gone stay, and nothing proves them.
    seal := greatest(watermark.sealed_before, watermark.logs_sealed_before);
    SELECT sum(u.requests), max(u.quarter) INTO rolled_up, last_quarter
    FROM metering.rollup_15m u JOIN metering.rollup_dimension d USING (dimension)
    WHERE u.user_id = 0 AND d.plan IS NULL AND metering.quarter_start(u.quarter) >= seal;
    IF rolled_up > 0 AND rolled_up > (
        SELECT count(*) FROM metering.log_facts(0, watermark.other_log_id) f WHERE f.occurred_at >= seal) THEN
        UPDATE metering.rollup_watermark SET logs_sealed_before = metering.quarter_start(last_quarter + 1);
    END IF;
    RETURN true;
END
$$;
