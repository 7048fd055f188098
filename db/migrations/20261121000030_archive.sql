-- migrate:up

-- Every entry of every conversation, once. Rows are only ever added: the service may not change or delete them.
CREATE TABLE cs_message (
    tenant_id   text NOT NULL,
    session_id  bigint NOT NULL,
    -- Position in the stream LOG.
    seq         bigint NOT NULL,
    message_id  bigint NOT NULL,
    -- The customer when the message was taken; cs_merged_visitor says who that is now.
    customer_id bigint NOT NULL,
    -- The number of octopus.chat.v1.SenderKind.
    sender_kind smallint NOT NULL,
    -- 0 for the bot and the platform.
    sender_id   bigint NOT NULL,
    sent_at     timestamptz NOT NULL,
    -- Content, sender's name and the sender's own id, sealed (mesh/stores/keyring.py) for this tenant, session and seq.
    body        bytea NOT NULL,
    archived_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (session_id, seq),
    UNIQUE (session_id, message_id)
) PARTITION BY HASH (session_id);

-- Visitors who turned out to be customers. Reading resolves ownership through it, so a message that
-- arrives after the merge still finds its owner.
CREATE TABLE cs_merged_visitor (
    tenant_id   text NOT NULL,
    visitor_id  bigint PRIMARY KEY,
    customer_id bigint NOT NULL,
    merged_at   timestamptz NOT NULL
);
CREATE INDEX cs_merged_visitor_by_customer ON cs_merged_visitor (tenant_id, customer_id);

DO $$
DECLARE name text;
BEGIN
    FOR i IN 0..15 LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF cs_message FOR VALUES WITH (MODULUS 16, REMAINDER %s)',
                       'cs_message_' || lpad(i::text, 2, '0'), i);
    END LOOP;
    -- A parent's policies do not guard its partitions when they are named directly.
    FOR name IN SELECT oid::regclass::text FROM pg_class
                WHERE relkind IN ('r', 'p') AND (relname ~ '^cs_message(_\d\d)?$' OR relname = 'cs_merged_visitor') LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY own_tenant ON %s USING (tenant_id = current_setting(''octopus.tenant'', true))'
            ' WITH CHECK (tenant_id = current_setting(''octopus.tenant'', true))', name);
    END LOOP;
END $$;

GRANT SELECT, INSERT ON cs_message, cs_merged_visitor TO octopus_archive;

-- migrate:down
DROP TABLE cs_merged_visitor, cs_message;
