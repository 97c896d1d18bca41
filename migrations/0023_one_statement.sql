-- Ingest stores plain events in one statement that is its own transaction. What it finds out only after it has written
-- must undo it, so it is raised as an error.

-- Returns true. Raises an error if one of `keys`, which the calling statement has just inserted, was withdrawn before
-- the insert but after the statement began (CF001), or if the ids of api_logs began again (CF002). VOLATILE, so that it
-- has a snapshot of its own, as metering.withdrawn has; in plpgsql, because PostgreSQL plans the body of a function in
-- SQL again for each statement.
CREATE FUNCTION metering.require_final(keys uuid[], ids_began_again boolean) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF ids_began_again THEN
        RAISE EXCEPTION 'the ids of api_logs began again' USING ERRCODE = 'CF002';
    END IF;
    IF EXISTS (SELECT FROM metering.withdrawn_events w WHERE w.event_key = ANY (keys)) THEN
        RAISE EXCEPTION 'an event was withdrawn meanwhile' USING ERRCODE = 'CF001';
    END IF;
    RETURN true;
END
$$;
