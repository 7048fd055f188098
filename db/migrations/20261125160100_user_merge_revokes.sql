-- migrate:up

-- A merge into a customer revokes the visitor's tokens.
ALTER TABLE cs_revocation DROP CONSTRAINT cs_revocation_cause_check,
    ADD CONSTRAINT cs_revocation_cause_check CHECK (cause BETWEEN 1 AND 5);
ALTER TABLE cs_user_audit DROP CONSTRAINT cs_user_audit_action_check,
    ADD CONSTRAINT cs_user_audit_action_check
        CHECK (action IN ('disabled', 'enabled', 'logged_out', 'password_changed', 'merged'));

-- migrate:down
-- Rows that tell of merges stay as they are.
ALTER TABLE cs_user_audit DROP CONSTRAINT cs_user_audit_action_check,
    ADD CONSTRAINT cs_user_audit_action_check
        CHECK (action IN ('disabled', 'enabled', 'logged_out', 'password_changed')) NOT VALID;
ALTER TABLE cs_revocation DROP CONSTRAINT cs_revocation_cause_check,
    ADD CONSTRAINT cs_revocation_cause_check CHECK (cause BETWEEN 1 AND 4) NOT VALID;
