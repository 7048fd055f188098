-- migrate:up

-- The position of the message that an edit or a recall changes; null for every other entry. The changed row stays as it
-- was written: readers apply the changes. Rows from before have no such kinds.
ALTER TABLE cs_message ADD COLUMN changes_seq bigint;
CREATE INDEX cs_message_by_changes_seq ON cs_message (session_id, changes_seq) WHERE changes_seq IS NOT NULL;

-- What the shop's staff write for each other: never read for a customer or a partner.
ALTER TABLE cs_message ADD COLUMN internal boolean NOT NULL DEFAULT false;

-- migrate:down
ALTER TABLE cs_message DROP COLUMN internal;
DROP INDEX cs_message_by_changes_seq;
ALTER TABLE cs_message DROP COLUMN changes_seq;
