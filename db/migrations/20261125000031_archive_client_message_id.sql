-- migrate:up

-- The author's own id of a message, unique in its session for each side of the conversation (sender_kind), for good: a
-- resend finds the row that was stored first, however long ago. Null for what has none (the platform's own entries) and
-- for rows from before this column, whose id is sealed in the body.
ALTER TABLE cs_message ADD COLUMN client_message_id text;
CREATE UNIQUE INDEX cs_message_by_client_message_id ON cs_message (session_id, sender_kind, client_message_id);

-- migrate:down
DROP INDEX cs_message_by_client_message_id;
ALTER TABLE cs_message DROP COLUMN client_message_id;
