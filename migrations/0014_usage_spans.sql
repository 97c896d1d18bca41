-- Users in the order of what they used, over any range of days, for the operator. A month of 10,000 users is 600,000 cells of
-- usage_days, which takes a second to add up; here it is some 60,000 small rows.
--
-- A row is what a user used in a run of days, whatever for: a single day, or 2, 4 ... 256 days that begin at a multiple of their
-- number since 1970. Any range is a few runs of each length. Single days are written with usage_days; a longer run is written
-- once, when its last day is over, from its two halves. A row that comes later is added to every run that was written. Powers of
-- four would take two thirds of the room, and a third more rows to read for a month.
CREATE TABLE metering.usage_spans (
    days integer NOT NULL,
    first_day date NOT NULL,
    user_id bigint NOT NULL,
    requests bigint NOT NULL,
    -- Input and output.
    tokens bigint NOT NULL,
    -- Exact, of the priced.
    cost numeric NOT NULL,
    PRIMARY KEY (days, first_day, user_id)
) WITH (fillfactor = 90);

-- The state of event_log_id, other_log_id and days_before that the runs belong to. Where the cursor stands elsewhere, moved by a
-- worker of an older version, which keeps no runs, the next pass makes all of them again from usage_days, a minute for
-- ten million events, and until then the days themselves are added up. So they come after this migration, too.
ALTER TABLE metering.usage_cursor ADD COLUMN spans_through bigint[];

-- The middle of a bucket in floating point: a bigint less 0.5 is numeric, whose exp takes 20 us, and a report has six for each of
-- its cells. Not STRICT, so that it is written out in the statement. What it says is as it was.
CREATE OR REPLACE FUNCTION metering.bucket_middle(bucket bigint) RETURNS float8 LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN bucket = 0 THEN 0 ELSE exp((bucket::float8 - 0.5) * 0.03922071315328133) END
$$;
