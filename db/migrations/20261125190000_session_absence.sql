-- migrate:up

-- Agents who vanish. `away_reason` and `earlier_status` hold the numbers of AwayReason and AgentStatus.
ALTER TABLE cs_agent
    ADD COLUMN away_reason    smallint NOT NULL DEFAULT 0,
    -- The status to return to when the platform has set the agent away; 0 for none.
    ADD COLUMN earlier_status smallint NOT NULL DEFAULT 0,
    -- When the agent last said a status. A vanished agent cannot have been away for longer.
    ADD COLUMN acted_at       timestamptz NOT NULL DEFAULT now();

-- How long agents of a shop may be without a connection; a shop without a row has the defaults.
CREATE TABLE cs_absence_settings (
    tenant_id      text PRIMARY KEY,
    away_after_s   integer NOT NULL CHECK (away_after_s BETWEEN 10 AND 300),
    return_after_s integer NOT NULL CHECK (return_after_s BETWEEN 60 AND 120)
);
SELECT keep_shops_apart('cs_absence_settings');
-- Vanished agents are looked for in all shops at once.
CREATE POLICY every_tenant ON cs_absence_settings FOR SELECT USING (current_setting('octopus.tenant', true) = '*');
GRANT SELECT, INSERT, UPDATE ON cs_absence_settings TO octopus_session;

-- migrate:down
DROP TABLE cs_absence_settings;
ALTER TABLE cs_agent DROP COLUMN away_reason, DROP COLUMN earlier_status, DROP COLUMN acted_at;
