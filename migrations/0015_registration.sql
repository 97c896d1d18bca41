-- Accounts that strangers made at POST /api/auth/register while ADMIN_REGISTRATION was 'verified'. Laravel's route
-- gives whoever asks an account with a plan's limits. There it opens a dashboard; here its key spends the operator's
-- money at the proxy. So limits are zero while an account is in this table and users.email_verified_at is NULL.
--
-- The mark is a row of ours, because Laravel's tables are never altered. It is made in the transaction that makes the
-- account. Accounts of Laravel or an operator have none, so that a NULL in email_verified_at, which most of Laravel's
-- own accounts have, takes no limit away. The row stays when the address is verified: if Laravel empties the column
-- again, because the address changed, the new address is verified first as well.
CREATE TABLE metering.unverified_registrations (
    user_id bigint PRIMARY KEY,
    registered_at timestamptz NOT NULL
);
