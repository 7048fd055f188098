-- migrate:up

-- Whether a visitor began a conversation; those who never do are deleted after some days. Of those who are there
-- already nobody knows, so they stay.
ALTER TABLE cs_user ADD COLUMN spoke boolean NOT NULL DEFAULT true;
ALTER TABLE cs_user ALTER COLUMN spoke SET DEFAULT false;
CREATE INDEX cs_user_silent ON cs_user (tenant_id, created_at) WHERE kind = 1 AND NOT spoke AND merged_into IS NULL;

-- Addresses from which somebody has logged in, by a keyed digest of name and address: attempts from there are not
-- delayed by what others guess elsewhere.
CREATE TABLE cs_login_address (
    tenant_id text NOT NULL REFERENCES cs_tenant,
    user_id   bigint NOT NULL REFERENCES cs_user,
    address   bytea NOT NULL CHECK (octet_length(address) = 32),
    used_at   timestamptz NOT NULL,
    PRIMARY KEY (user_id, address)
);
CREATE INDEX cs_login_address_by_use ON cs_login_address (tenant_id, used_at);

ALTER TABLE cs_login_address ENABLE ROW LEVEL SECURITY;
ALTER TABLE cs_login_address FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON cs_login_address USING (tenant_id = current_setting('octopus.tenant', true))
    WITH CHECK (tenant_id = current_setting('octopus.tenant', true));

-- The purge looks for the shops that have some.
CREATE POLICY every_tenant ON cs_user FOR SELECT USING (current_setting('octopus.tenant', true) = '*' AND kind = 1);
CREATE POLICY every_tenant ON cs_login_address FOR SELECT USING (current_setting('octopus.tenant', true) = '*');

GRANT SELECT, INSERT, UPDATE, DELETE ON cs_login_address TO octopus_user;
GRANT DELETE ON cs_user, cs_user_audit TO octopus_user;

-- migrate:down
DROP POLICY every_tenant ON cs_user;
DROP TABLE cs_login_address;
REVOKE DELETE ON cs_user, cs_user_audit FROM octopus_user;
DROP INDEX cs_user_silent;
ALTER TABLE cs_user DROP COLUMN spoke;
