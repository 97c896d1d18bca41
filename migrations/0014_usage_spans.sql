-- Users in the order of what they used, over any range of days, for the operator. A month of 10,000 users is 600,000 cells of
-- usage_days, which takes a second to add up; here it is some 50,000 small rows.
--
-- A row is what a user used in a run of days, whatever for: a single day, or 2, 4 … 256 days that begin at a multiple of their
-- number since 1970. Any range is a few runs of each length. Single days are written with usage_days; a longer run is written
-- once, when its last day is over, from its two halves. A row that comes later is added to every run that was written.
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

-- Takes about 5 s a million rows of usage_days.
INSERT INTO metering.usage_spans (days, first_day, user_id, requests, tokens, cost)
SELECT 1, u.day, u.user_id, least(sum(u.requests), 9223372036854775807),
       least(sum(u.input_tokens) + sum(u.output_tokens), 9223372036854775807), sum(u.cost)
FROM metering.usage_days u WHERE u.user_id <> 0
GROUP BY u.day, u.user_id
ORDER BY u.day, u.user_id;

INSERT INTO metering.usage_spans (days, first_day, user_id, requests, tokens, cost)
SELECT l.days, s.first_day - mod(s.first_day - '1970-01-01', l.days) AS start, s.user_id,
       least(sum(s.requests), 9223372036854775807), least(sum(s.tokens), 9223372036854775807), sum(s.cost)
FROM metering.usage_spans s CROSS JOIN unnest('{2,4,8,16,32,64,128,256}'::integer[]) AS l (days), metering.usage_cursor c
WHERE (s.first_day - '1970-01-01' - mod(s.first_day - '1970-01-01', l.days) + l.days) <= c.days_before / 96
GROUP BY l.days, start, s.user_id
ORDER BY l.days, start, s.user_id;

-- The middle of a bucket in floating point: a bigint less 0.5 is numeric, whose exp takes 20 µs, and a report has six for each of
-- its cells. Not STRICT, so that it is written out in the statement. What it says is as it was.
CREATE OR REPLACE FUNCTION metering.bucket_middle(bucket bigint) RETURNS float8 LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN bucket = 0 THEN 0 ELSE exp((bucket::float8 - 0.5) * 0.03922071315328133) END
$$;
