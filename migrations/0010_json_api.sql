-- What Laravel's routes took and never kept (`laravel.md` section 6).

CREATE TABLE metering.favorite_models (
    user_id bigint NOT NULL,
    model_id bigint NOT NULL,
    favored_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, model_id)
);

-- A user's wish for higher limits, and its answer.
CREATE TABLE metering.limit_requests (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id bigint NOT NULL,
    period text NOT NULL CHECK (period IN ('daily', 'monthly')),
    reason text,
    requested_at timestamptz NOT NULL,
    answer text CHECK (answer IN ('granted', 'refused')),
    note text,
    answered_by bigint,
    answered_at timestamptz,
    CHECK ((answered_at IS NULL) = (answer IS NULL))
);
-- One wish at a time: a page that is clicked a thousand times asks once.
CREATE UNIQUE INDEX limit_requests_open ON metering.limit_requests (user_id, period) WHERE answered_at IS NULL;
CREATE INDEX limit_requests_user ON metering.limit_requests (user_id, id);

-- Who changed what: one row for each change that the admin API made, written by the transaction that made it. Rows are only
-- ever added. Of keys it holds the first characters, of passwords nothing.
CREATE TABLE metering.audit_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    -- Laravel's user id; he may be gone by now.
    actor_id bigint NOT NULL,
    -- Where the request came from, as the service saw it.
    address text NOT NULL,
    action text NOT NULL,
    -- What was changed: user, user_limits, plan_limits, model, free_model, ..., and which.
    subject text NOT NULL,
    subject_id text NOT NULL,
    -- How it was and how it is; NULL where it was not there, or is not any more.
    before jsonb,
    after jsonb
);
CREATE INDEX audit_log_subject ON metering.audit_log (subject, subject_id, id);
CREATE INDEX audit_log_actor ON metering.audit_log (actor_id, id);
