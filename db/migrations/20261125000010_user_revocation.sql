-- migrate:up

-- Tokens carry the generation they were issued in; those of an older one are refused.
ALTER TABLE cs_user ADD COLUMN token_generation integer NOT NULL DEFAULT 0 CHECK (token_generation >= 0);

-- What was taken back lately, so that it can be published again when the bus has lost it. Swept when no older access
-- token can be alive. `cause` holds the number of octopus.user.v1.LogOutCause.
CREATE TABLE cs_revocation (
    user_id    bigint PRIMARY KEY REFERENCES cs_user,
    tenant_id  text NOT NULL REFERENCES cs_tenant,
    generation integer NOT NULL CHECK (generation > 0),
    cause      smallint NOT NULL CHECK (cause BETWEEN 1 AND 4),
    revoked_at timestamptz NOT NULL
);
CREATE INDEX cs_revocation_by_time ON cs_revocation (tenant_id, revoked_at);

-- Who did what to whose account. Rows are only ever added.
CREATE TABLE cs_user_audit (
    id        bigint PRIMARY KEY,
    tenant_id text NOT NULL REFERENCES cs_tenant,
    -- Who did it; the user's own id when it was the user.
    actor_id  bigint NOT NULL,
    user_id   bigint NOT NULL REFERENCES cs_user,
    action    text NOT NULL CHECK (action IN ('disabled', 'enabled', 'logged_out', 'password_changed')),
    at        timestamptz NOT NULL
);
CREATE INDEX cs_user_audit_by_user ON cs_user_audit (tenant_id, user_id, id);

DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['cs_revocation', 'cs_user_audit'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY own_tenant ON %I USING (tenant_id = current_setting(''octopus.tenant'', true))'
            ' WITH CHECK (tenant_id = current_setting(''octopus.tenant'', true))', name);
    END LOOP;
END $$;

-- Publishing again and sweeping look for the shops that have some.
CREATE POLICY every_tenant ON cs_revocation FOR SELECT USING (current_setting('octopus.tenant', true) = '*');

GRANT SELECT, INSERT, UPDATE, DELETE ON cs_revocation TO octopus_user;
GRANT SELECT, INSERT ON cs_user_audit TO octopus_user;

-- migrate:down
DROP TABLE cs_user_audit, cs_revocation;
ALTER TABLE cs_user DROP COLUMN token_generation;
