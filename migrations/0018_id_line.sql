-- The line of ids, which never runs backwards.
--
-- Laravel can begin the ids of api_logs again: TRUNCATE ... RESTART IDENTITY (its `truncate()`), ALTER SEQUENCE ...
-- RESTART, or DELETE and setval. The same id is then given to another row. Cursors that hold ids would skip the new
-- rows, and facts that are found by an id would be shown with another call's row.
--
-- So metering.events.api_log_id, the cursors in metering.usage_cursor and metering.withdrawn_events.api_log_id are
-- positions on a line: position = id + shift. Each time the ids begin again, a new epoch begins, whose first position
-- is after every position known. The first epoch has shift 0, so each position written before this migration is right
-- as it is. The answers of the webhook and metering.quarantine.api_log_id hold ids, as before.
--
--   metering.id_epochs    from a position to the id that it was given under
--   metering.id_segments  from the id of a row in api_logs to its position: rows that were there before the ids began
--                         again ("kept rows") keep the shift of their epoch, all others have the shift of the last one
--
-- The ids began again when the sequence has another file (TRUNCATE and ALTER SEQUENCE make one, in their transaction)
-- or when it is below a position that is known. Each program that relies on the line looks: the ingest statement after
-- it has drawn its ids, the worker after each step, a report in its snapshot. What it did is undone,
-- metering.begin_id_epoch() begins the epoch, and it starts again. An epoch that was begun for nothing changes no
-- figure: kept rows stay where they are.
--
-- Exactness. Ingest holds a shared advisory lock while it uses a shift, and begin_id_epoch() the exclusive one, so no
-- event of the former epoch commits after the new one began. A row of api_logs is kept when it was committed before the
-- worker last called ids final (usage_cursor.settled_snapshot), or when it is the row of an event. A row that was
-- updated since is kept when a row that is certainly kept has a higher id that the sequence has reached, or when the
-- sequence has not reached its own. Any other row is taken for one that was not added to the sums yet, and stands in
-- the new epoch. The worker lists the writers of api_logs only after it has committed the position that it waits for,
-- so a writer that is not listed sees that position.
--
-- What cannot be known: setval to a lower id, and all ids up to the former maximum given out again, before anything
-- looked. Ingest looks at the cursor and at what its own process has drawn, the services at all of it each second.
-- `verify` finds what is missing in the sums then, and `rebuild` repairs it. A row that is inserted under the id of a
-- deleted row which had an event counts as that event's row. A row of Laravel's that was added to the sums, and was
-- updated between the last pass and a setval, counts twice when no certainly kept row has a higher id; a new row that
-- was given an id below that of a kept row, before anything looked, is missed. Both are sealed, so `verify` is silent.
--
-- An older webhook-api or worker knows no epochs: it works as before until the ids begin again. Stop it before that.

CREATE TABLE metering.id_epochs (
    epoch integer PRIMARY KEY,
    -- Positions from this one on, up to the next epoch's, belong to it: none, where the ids began again before one was
    -- known.
    first_position bigint NOT NULL,
    shift bigint NOT NULL CHECK (shift >= 0),
    began_at timestamptz NOT NULL,
    -- The file of api_logs_id_seq, of the last epoch as it was last seen.
    sequence_file oid
);

-- All ids above 0, each in one segment.
CREATE TABLE metering.id_segments (
    -- Ids of api_logs after the first, up to the last; 9223372036854775807 has no end.
    after_id bigint PRIMARY KEY,
    through_id bigint NOT NULL CHECK (through_id > after_id),
    shift bigint NOT NULL CHECK (shift >= 0)
);

ALTER TABLE metering.usage_cursor
    -- What was committed when ids up to settled_log_id were called final: it shows each row that is in the sums.
    ADD COLUMN settled_snapshot pg_snapshot,
    -- Rows of api_logs without an event were removed when the ids began again: their sums before this moment cannot be
    -- proved or made again, and stay.
    ADD COLUMN logs_sealed_before timestamptz NOT NULL DEFAULT '-infinity';

COMMENT ON COLUMN metering.events.api_log_id IS
    'Position on the line of ids (0018_id_line.sql), not always an id.';
COMMENT ON COLUMN metering.withdrawn_events.api_log_id IS
    'Position on the line of ids (0018_id_line.sql), not always an id.';

INSERT INTO metering.id_epochs (epoch, first_position, shift, began_at, sequence_file)
VALUES (0, 0, 0, now(), pg_relation_filenode(to_regclass('public.api_logs_id_seq')));
INSERT INTO metering.id_segments (after_id, through_id, shift) VALUES (0, 9223372036854775807, 0);

-- The ids that stand on a stretch of the line, from the position after `after` to `through`: those after `lower`, up to
-- `upper`, at id + shift. Not in SQL, so that the planner expects one row, whatever it knows of the table. It acts as
-- its owner, so that programs of older versions, which have no right on the table, go on.
CREATE FUNCTION metering.id_ranges(after bigint, through bigint)
RETURNS TABLE (lower bigint, upper bigint, shift bigint)
LANGUAGE plpgsql STABLE PARALLEL SAFE ROWS 1 SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY
    SELECT r.lower, r.upper, r.shift
    FROM (
        SELECT greatest(s.after_id, id_ranges.after - s.shift) AS lower,
               least(s.through_id, id_ranges.through - s.shift) AS upper, s.shift
        FROM metering.id_segments s
    ) r
    WHERE r.lower < r.upper
    ORDER BY r.lower + r.shift;
END
$$;

-- Where the row `id` of api_logs stands; NULL where it stands nowhere.
CREATE FUNCTION metering.log_position(id bigint) RETURNS bigint
LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (
        SELECT least(log_position.id, 9223372036854775807 - s.shift) + s.shift FROM metering.id_segments s
        WHERE s.after_id < log_position.id ORDER BY s.after_id DESC LIMIT 1);
END
$$;

-- Whether the facts of an event are those of a row of api_logs. Its cost, duration and texts may have been corrected.
CREATE FUNCTION metering.is_row_of_event(
    row_user bigint, row_time timestamp, row_model text, row_input bigint, row_output bigint, row_status text,
    user_id bigint, occurred_at timestamptz, model text, input_tokens bigint, output_tokens bigint, status text)
RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT row_user = user_id AND row_time = date_trunc('second', occurred_at AT TIME ZONE 'UTC') AND row_model = model
           AND row_input = least(input_tokens, 2147483647) AND row_output = least(output_tokens, 2147483647)
           AND row_status = status;
END;

-- Waits until no epoch is beginning, keeps one from beginning before the transaction ends, and returns the shift of the
-- ids that are drawn now. VOLATILE, so that it sees an epoch that began while it waited.
CREATE FUNCTION metering.enter_id_line() RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('metering.id_line'));
    RETURN (SELECT k.shift FROM metering.id_epochs k ORDER BY k.epoch DESC LIMIT 1);
END
$$;

-- Whether the ids of api_logs began again since the last epoch began. It acts as its owner, who may read the sequence.
CREATE FUNCTION metering.ids_began_again() RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    id_sequence regclass := to_regclass('public.api_logs_id_seq');
    last_id bigint;
    last_epoch metering.id_epochs;
BEGIN
    -- Tables that are not ours, or gone, are for an operator to adopt.
    IF id_sequence IS NULL OR (SELECT s.is_intact FROM metering.installation_state s) IS NOT TRUE THEN
        RETURN false;
    END IF;
    SELECT k.* INTO last_epoch FROM metering.id_epochs k ORDER BY k.epoch DESC LIMIT 1;
    IF last_epoch.sequence_file IS DISTINCT FROM pg_relation_filenode(id_sequence) THEN
        RETURN true;
    END IF;
    SELECT s.last_value - CASE WHEN s.is_called THEN 0 ELSE 1 END INTO last_id FROM public.api_logs_id_seq s;
    RETURN last_id + last_epoch.shift < metering.last_position();
END
$$;

-- The greatest position that was given to an event, or that a cursor has reached.
CREATE FUNCTION metering.last_position() RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN greatest(
        (SELECT max(e.api_log_id) FROM metering.events e), (SELECT max(w.api_log_id) FROM metering.withdrawn_events w),
        (SELECT greatest(c.event_log_id, c.other_log_id, c.settled_log_id, c.marked_log_id)
         FROM metering.usage_cursor c),
        (SELECT i.counted_log_id FROM metering.installation i), 0);
END
$$;

-- Begins a new epoch if the ids of api_logs began again, and returns whether it did. To be called in a transaction of
-- its own. It acts as its owner, as each program may be the one that notices.
CREATE FUNCTION metering.begin_id_epoch() RETURNS boolean
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
    cursor_row metering.usage_cursor;
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
    PERFORM FROM metering.usage_cursor FOR UPDATE;
    PERFORM pg_advisory_xact_lock(hashtext('metering.id_line'));
    IF NOT metering.ids_began_again() THEN
        RETURN false;
    END IF;
    file := pg_relation_filenode('public.api_logs_id_seq'::regclass);
    end_position := metering.last_position();
    next_xid := pg_snapshot_xmax(pg_current_snapshot())::text::bigint;
    SELECT s.last_value - CASE WHEN s.is_called THEN 0 ELSE 1 END INTO last_id FROM public.api_logs_id_seq s;
    SELECT k.* INTO former FROM metering.id_epochs k ORDER BY k.epoch DESC LIMIT 1;
    SELECT c.* INTO cursor_row FROM metering.usage_cursor c;

    SELECT array_agg(n.id), coalesce(bool_or(n.position <= cursor_row.settled_log_id OR n.has_event), false)
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
                           cursor_row.settled_snapshot) AS is_settled
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
    -- Where rows are kept, there was no TRUNCATE: ids up to the highest of them were not given again, nor were those that
    -- the sequence has not reached. So such a row is one that was changed.
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
    UPDATE metering.usage_cursor
    SET settled_log_id = end_position, marked_log_id = NULL, marked_transactions = NULL;
    UPDATE metering.installation SET highest_log_id = last_id;

    -- Sums of rows that are gone stay, and nothing proves them.
    seal := greatest(cursor_row.sealed_before, cursor_row.logs_sealed_before);
    SELECT sum(u.requests), max(u.quarter) INTO rolled_up, last_quarter
    FROM metering.usage_quarters u JOIN metering.usage_dimensions d USING (dimension)
    WHERE u.user_id = 0 AND d.plan IS NULL AND metering.quarter_start(u.quarter) >= seal;
    IF rolled_up > 0 AND rolled_up > (
        SELECT count(*) FROM metering.log_facts(0, cursor_row.other_log_id) f WHERE f.occurred_at >= seal) THEN
        UPDATE metering.usage_cursor SET logs_sealed_before = metering.quarter_start(last_quarter + 1);
    END IF;
    RETURN true;
END
$$;

-- Where the ids began again already, an older worker took the new rows for old ones: none but those of events is kept.
UPDATE metering.usage_cursor
SET settled_snapshot = CASE WHEN metering.ids_began_again() THEN '1:1:'::pg_snapshot ELSE pg_current_snapshot() END;
