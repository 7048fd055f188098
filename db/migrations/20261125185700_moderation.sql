-- migrate:up

-- The version of each shop's list, locked by whoever changes the list. A shop that has never changed it has no row.
CREATE TABLE cs_word_list (
    tenant_id text PRIMARY KEY,
    version   bigint NOT NULL
);

-- The shops' own words. Actions are those of octopus.moderation.v1.WordAction.
CREATE TABLE cs_sensitive_word (
    tenant_id  text NOT NULL,
    word       text COLLATE "C" NOT NULL,
    action     smallint NOT NULL CHECK (action BETWEEN 1 AND 3),
    changed_by bigint NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, word)
);

-- What a shop does about the words that come with the platform, where it has chosen; 0 for nothing.
CREATE TABLE cs_word_category (
    tenant_id  text NOT NULL,
    category   text NOT NULL,
    action     smallint NOT NULL CHECK (action BETWEEN 0 AND 3),
    changed_by bigint NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, category)
);

-- The words that were found, without the texts. `place` is the word's among those of its message.
CREATE TABLE cs_word_hit (
    tenant_id         text NOT NULL,
    id                bigint NOT NULL,
    session_id        bigint NOT NULL,
    customer_id       bigint NOT NULL,
    user_id           bigint NOT NULL,
    client_message_id text NOT NULL,
    place             smallint NOT NULL,
    word              text NOT NULL,
    category          text NOT NULL,
    action            smallint NOT NULL CHECK (action BETWEEN 1 AND 3),
    found_at          timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, session_id, user_id, client_message_id, place)
);

CREATE TABLE cs_moderation_outbox (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id   text NOT NULL,
    subject     text NOT NULL,
    message_id  text NOT NULL,
    type        text NOT NULL,
    payload     bytea NOT NULL,
    traceparent text,
    created_at  timestamptz NOT NULL DEFAULT now()
);

SELECT keep_shops_apart('cs_word_list');
SELECT keep_shops_apart('cs_sensitive_word');
SELECT keep_shops_apart('cs_word_category');
SELECT keep_shops_apart('cs_word_hit');
SELECT keep_shops_apart('cs_moderation_outbox');
-- What is to be sent is looked for in all shops at once.
CREATE POLICY every_tenant ON cs_moderation_outbox FOR SELECT USING (current_setting('octopus.tenant', true) = '*');

GRANT SELECT, INSERT, UPDATE ON cs_word_list, cs_word_category TO octopus_moderation;
GRANT SELECT, INSERT, UPDATE, DELETE ON cs_sensitive_word TO octopus_moderation;
GRANT SELECT, INSERT ON cs_word_hit TO octopus_moderation;
GRANT SELECT, INSERT, DELETE ON cs_moderation_outbox TO octopus_moderation;

-- migrate:down
DROP TABLE cs_moderation_outbox, cs_word_hit, cs_word_category, cs_sensitive_word, cs_word_list;
