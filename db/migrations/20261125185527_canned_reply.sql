-- migrate:up

-- Texts that agents send often.
CREATE TABLE cs_canned_reply (
    id         bigint PRIMARY KEY,
    tenant_id  text NOT NULL,
    -- Whose own it is; 0 for those that the whole shop shares.
    owner_id   bigint NOT NULL,
    shortcut   text NOT NULL,
    category   text NOT NULL DEFAULT '',
    body       text NOT NULL,
    version    bigint NOT NULL DEFAULT 1,
    -- Who created it and under which id, so that creation is safe to repeat.
    created_by bigint NOT NULL,
    request_id text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX cs_canned_reply_by_shortcut ON cs_canned_reply (tenant_id, owner_id, lower(shortcut));
CREATE UNIQUE INDEX cs_canned_reply_by_request ON cs_canned_reply (tenant_id, created_by, request_id);
SELECT keep_shops_apart('cs_canned_reply');
GRANT SELECT, INSERT, UPDATE, DELETE ON cs_canned_reply TO octopus_knowledge;

-- migrate:down
DROP TABLE cs_canned_reply;
