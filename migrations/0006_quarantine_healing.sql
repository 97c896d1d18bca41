-- An entry that waits for a key or a user is parked (next_attempt_at = 'infinity') and costs nothing until that is there:
-- then it is woken, which makes it due. Only what is due is in quarantine_due; parked entries are found by what they wait for.

-- Keys that were seen for the first time, a row for each look at `users` (of at most 1,000 keys). It is written with the keys
-- and deleted when nobody waits for them any more, so that no stop of a service strands an entry.
CREATE TABLE metering.key_arrivals (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key_hashes bytea[] NOT NULL,
    -- NULL until the entries that could be seen were woken. An event may be put aside at the same moment by a transaction that
    -- did not see the keys yet: when all transactions below this id have ended, the entries are looked for once more.
    horizon xid8
);

-- Who held the first of `key_hashes` that anybody held at `moment`, as the services see it when they attribute an event.
CREATE FUNCTION metering.key_holder(key_hashes bytea[], moment timestamptz) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT k.user_id
    FROM metering.api_keys k
    WHERE k.key_hash = ANY(key_hashes) AND k.valid_from <= moment AND (k.valid_to IS NULL OR moment < k.valid_to)
    ORDER BY array_position(key_hashes, k.key_hash), k.valid_from
    LIMIT 1
$$;

DROP INDEX metering.quarantine_open;
CREATE INDEX quarantine_due ON metering.quarantine (reason, next_attempt_at)
    WHERE resolved_at IS NULL AND is_replayable AND next_attempt_at < 'infinity';

-- The entries of a key: those that a new key wakes, and those an operator asks for by the beginning of a hash. A stated key
-- has one hash, or two where its text could be a hash itself.
DROP INDEX metering.quarantine_unknown_keys;
CREATE INDEX quarantine_first_key ON metering.quarantine ((key_hashes[1])) WHERE resolved_at IS NULL;
CREATE INDEX quarantine_second_key ON metering.quarantine ((key_hashes[2]))
    WHERE resolved_at IS NULL AND key_hashes[2] IS NOT NULL;

-- The users whom parked entries wait for, to be there or to be free.
CREATE INDEX quarantine_awaited_users ON metering.quarantine (user_id)
    WHERE resolved_at IS NULL AND is_replayable AND next_attempt_at = 'infinity'
      AND reason IN ('unknown_user', 'user_locked');

-- The operator's pages, in the order of arrival.
DROP INDEX metering.quarantine_received;
CREATE INDEX quarantine_received ON metering.quarantine (received_at, id);
CREATE INDEX quarantine_reason ON metering.quarantine (reason, received_at, id) WHERE resolved_at IS NULL;
CREATE INDEX quarantine_user ON metering.quarantine (user_id, received_at, id) WHERE user_id IS NOT NULL;
