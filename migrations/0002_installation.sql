-- The database we belong to. If Laravel's tables are dropped and made again (`migrate:fresh`, a restore), their ids start
-- again and our history would meet new people; the services stop until an operator has run `codexflow adopt`.
CREATE TABLE metering.installation (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    users_table oid NOT NULL,
    api_logs_table oid NOT NULL,
    highest_user_id bigint NOT NULL,
    highest_log_id bigint NOT NULL,
    -- Rows of api_logs up to this id that have no event are in quota_usage already: Laravel counted them before us. The
    -- aggregation worker goes on from there.
    counted_log_id bigint NOT NULL,
    adopted_at timestamptz NOT NULL
);

-- One row: whether the tables and ids of this database are still those we know. Read inside every ingest statement, so
-- that not one event is attributed between a `migrate:fresh` and the moment a service notices it.
CREATE VIEW metering.installation_state AS
SELECT i.users_table = to_regclass('public.users')::oid
       AND i.api_logs_table = to_regclass('public.api_logs')::oid AS is_intact
FROM metering.installation i;
