-- migrate:up

-- The shops. Every other table names one of them.
CREATE TABLE cs_tenant (
    tenant_id       text PRIMARY KEY CHECK (tenant_id ~ '^[a-z0-9-]{1,32}$'),
    name_zh         text NOT NULL,
    name_en         text NOT NULL,
    -- Signs shoppers' identities; sealed (mesh/stores/keyring.py), never in the clear.
    identity_secret bytea NOT NULL,
    disabled        boolean NOT NULL DEFAULT false,
    created_at      timestamptz NOT NULL DEFAULT now()
);

-- Visitors, customers, staff and partners. `kind` and `roles` hold the numbers of octopus.user.v1.UserKind
-- and octopus.options.v1.Role.
CREATE TABLE cs_user (
    id           bigint PRIMARY KEY,
    tenant_id    text NOT NULL REFERENCES cs_tenant,
    kind         smallint NOT NULL CHECK (kind BETWEEN 1 AND 4),
    roles        smallint[] NOT NULL,
    display_name text NOT NULL,
    -- Log-in name, the shop's own id, or client id; NULL for visitors.
    external_id  text CHECK ((external_id IS NULL) = (kind = 1)),
    -- Sealed; NULL when unknown.
    phone        bytea,
    scopes       text[] NOT NULL DEFAULT '{}',
    disabled     boolean NOT NULL DEFAULT false,
    merged_into  bigint REFERENCES cs_user,
    locale       text NOT NULL DEFAULT '',
    capacity     integer NOT NULL DEFAULT 0,
    -- Makes creation safe to repeat; NULL for shoppers, who are recognised otherwise.
    request_id   text,
    created_at   timestamptz NOT NULL,
    CHECK (merged_into IS NULL OR kind = 1)
);
CREATE UNIQUE INDEX cs_user_by_external_id ON cs_user (tenant_id, kind, external_id) WHERE external_id IS NOT NULL;
CREATE UNIQUE INDEX cs_user_by_request_id ON cs_user (tenant_id, request_id) WHERE request_id IS NOT NULL;
CREATE INDEX cs_user_by_tenant ON cs_user (tenant_id, id);

CREATE TABLE cs_user_tag (
    tenant_id text NOT NULL REFERENCES cs_tenant,
    user_id   bigint NOT NULL REFERENCES cs_user,
    tag       text NOT NULL CHECK (char_length(tag) BETWEEN 1 AND 64),
    PRIMARY KEY (user_id, tag)
);
CREATE INDEX cs_user_tag_by_tag ON cs_user_tag (tenant_id, tag, user_id);

-- Argon2id hashes of staff passwords and partner secrets.
CREATE TABLE cs_credential (
    user_id    bigint PRIMARY KEY REFERENCES cs_user,
    tenant_id  text NOT NULL REFERENCES cs_tenant,
    hash       text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
);

-- Refresh tokens, by SHA-256 only: they are 256 random bits, so no slow hash is needed.
CREATE TABLE cs_refresh_token (
    token_hash     bytea PRIMARY KEY CHECK (octet_length(token_hash) = 32),
    tenant_id      text NOT NULL REFERENCES cs_tenant,
    user_id        bigint NOT NULL REFERENCES cs_user,
    -- All tokens that came from one log-in; revoked together.
    family         bigint NOT NULL,
    expires_at     timestamptz NOT NULL,
    used_at        timestamptz,
    successor_hash bytea,
    revoked_at     timestamptz,
    CHECK ((used_at IS NULL) = (successor_hash IS NULL))
);
CREATE INDEX cs_refresh_token_by_family ON cs_refresh_token (tenant_id, family);
CREATE INDEX cs_refresh_token_by_user ON cs_refresh_token (tenant_id, user_id);
CREATE INDEX cs_refresh_token_by_end ON cs_refresh_token (tenant_id, expires_at);

-- The platform's keys for access tokens. They belong to no shop: their tenant is '*'.
CREATE TABLE cs_signing_key (
    kid          text PRIMARY KEY,
    tenant_id    text NOT NULL DEFAULT '*' CHECK (tenant_id = '*'),
    public_key   bytea NOT NULL CHECK (octet_length(public_key) = 32),
    -- Sealed.
    private_key  bytea NOT NULL,
    -- Signs from then on, until the next key does.
    active_from  timestamptz NOT NULL,
    created_at   timestamptz NOT NULL
);

CREATE TABLE cs_user_outbox (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id   text NOT NULL,
    subject     text NOT NULL,
    message_id  text NOT NULL,
    type        text NOT NULL,
    payload     bytea NOT NULL,
    traceparent text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now()
);

DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['cs_tenant', 'cs_user', 'cs_user_tag', 'cs_credential', 'cs_refresh_token', 'cs_signing_key',
                               'cs_user_outbox'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY own_tenant ON %I USING (tenant_id = current_setting(''octopus.tenant'', true))'
            ' WITH CHECK (tenant_id = current_setting(''octopus.tenant'', true))', name);
    END LOOP;
END $$;

-- The hourly sweep of ended refresh tokens looks for the shops that have some.
CREATE POLICY every_tenant ON cs_refresh_token FOR SELECT USING (current_setting('octopus.tenant', true) = '*');
-- The relay publishes in one order for all shops.
CREATE POLICY every_tenant ON cs_user_outbox FOR SELECT USING (current_setting('octopus.tenant', true) = '*');

GRANT SELECT, INSERT, UPDATE ON cs_tenant, cs_user, cs_credential TO octopus_user;
GRANT SELECT, INSERT, DELETE ON cs_user_tag TO octopus_user;
GRANT SELECT, INSERT, UPDATE, DELETE ON cs_refresh_token TO octopus_user;
GRANT SELECT, INSERT, DELETE ON cs_signing_key, cs_user_outbox TO octopus_user;

-- migrate:down
DROP TABLE cs_user_outbox, cs_signing_key, cs_refresh_token, cs_credential, cs_user_tag, cs_user, cs_tenant;
