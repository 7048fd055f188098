-- migrate:up

-- WARNING (6) is ACTIVE (4) with a customer who was reminded, so whatever concerns the one concerns the other.
ALTER TABLE cs_session
    DROP CONSTRAINT cs_session_state_check,
    DROP CONSTRAINT cs_session_check2,
    DROP CONSTRAINT cs_session_check3,
    -- While WARNING: when it ends; null when it does not end by itself.
    ADD COLUMN closes_at timestamptz,
    -- Until when the customer is asked how they were served; null when not asked.
    ADD COLUMN rate_until timestamptz,
    -- The session that this one continues; 0 when none.
    ADD COLUMN previous_session_id bigint NOT NULL DEFAULT 0,
    ADD CONSTRAINT cs_session_state_check CHECK (state BETWEEN 1 AND 6),
    ADD CONSTRAINT cs_session_handoff_check CHECK (state NOT IN (2, 3, 4, 6) OR handoff_at IS NOT NULL),
    ADD CONSTRAINT cs_session_agent_check CHECK (
        CASE WHEN state IN (3, 4, 6) THEN agent_id <> 0 WHEN state IN (1, 2) THEN agent_id = 0 ELSE true END),
    ADD CONSTRAINT cs_session_closes_check CHECK (closes_at IS NULL OR state = 6);
DROP INDEX cs_session_seated;
CREATE INDEX cs_session_seated ON cs_session (tenant_id, agent_id) WHERE state IN (3, 4, 6);
CREATE INDEX cs_session_closes_at ON cs_session (closes_at) WHERE state = 6;

-- Who wrote last in sessions that a person was asked into; positions in the log. A row goes when its session has ended.
CREATE TABLE cs_session_turn (
    tenant_id    text NOT NULL,
    session_id   bigint NOT NULL,
    customer_seq bigint NOT NULL DEFAULT 0,
    agent_seq    bigint NOT NULL DEFAULT 0,
    -- When the agent's last message was stored; null while there is none.
    agent_at     timestamptz,
    -- The last message of either when the customer was reminded.
    warned_seq   bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, session_id)
);
-- Silent customers, the longest silence first.
CREATE INDEX cs_session_turn_silent ON cs_session_turn (agent_at) WHERE agent_seq > customer_seq;

-- Settings of shops that do not keep to the defaults.
CREATE TABLE cs_session_settings (
    tenant_id        text PRIMARY KEY,
    remind_after     interval NOT NULL CHECK (remind_after >= '0'),
    close_after      interval NOT NULL CHECK (close_after >= '0'),
    return_within    interval NOT NULL CHECK (return_within >= '0'),
    ask_satisfaction boolean NOT NULL
);

-- What customers said of how they were served, once for each session.
CREATE TABLE cs_session_satisfaction (
    tenant_id  text NOT NULL,
    session_id bigint NOT NULL,
    score      smallint NOT NULL CHECK (score BETWEEN 1 AND 5),
    -- Sealed; null when nothing was said.
    comment    bytea,
    rated_at   timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, session_id)
);

-- What ended sessions were about and what they took.
CREATE TABLE cs_session_summary (
    tenant_id         text NOT NULL,
    session_id        bigint NOT NULL,
    -- The customer's first words, sealed; null when there were none.
    opener            bytea,
    topic             text NOT NULL,
    customer_messages integer NOT NULL,
    agent_messages    integer NOT NULL,
    bot_messages      integer NOT NULL,
    waited            interval,
    first_response    interval,
    handled           interval,
    agent_ids         bigint[] NOT NULL,
    PRIMARY KEY (tenant_id, session_id)
);

SELECT keep_shops_apart('cs_session_turn');
SELECT keep_shops_apart('cs_session_settings');
SELECT keep_shops_apart('cs_session_satisfaction');
SELECT keep_shops_apart('cs_session_summary');
-- Silent customers are looked for in all shops at once.
CREATE POLICY every_tenant ON cs_session_turn FOR SELECT USING (current_setting('octopus.tenant', true) = '*');
CREATE POLICY every_tenant ON cs_session_settings FOR SELECT USING (current_setting('octopus.tenant', true) = '*');

GRANT SELECT, INSERT, UPDATE, DELETE ON cs_session_turn TO octopus_session;
GRANT SELECT, INSERT, UPDATE ON cs_session_settings, cs_session_summary TO octopus_session;
GRANT SELECT, INSERT ON cs_session_satisfaction TO octopus_session;

-- migrate:down
DROP TABLE cs_session_summary, cs_session_satisfaction, cs_session_settings, cs_session_turn;
DROP INDEX cs_session_closes_at, cs_session_seated;
UPDATE cs_session SET state = 4, closes_at = NULL WHERE state = 6;
ALTER TABLE cs_session
    DROP CONSTRAINT cs_session_closes_check,
    DROP CONSTRAINT cs_session_agent_check,
    DROP CONSTRAINT cs_session_handoff_check,
    DROP CONSTRAINT cs_session_state_check,
    DROP COLUMN previous_session_id,
    DROP COLUMN rate_until,
    DROP COLUMN closes_at,
    ADD CONSTRAINT cs_session_state_check CHECK (state BETWEEN 1 AND 5),
    ADD CONSTRAINT cs_session_check2 CHECK (state NOT IN (2, 3, 4) OR handoff_at IS NOT NULL),
    ADD CONSTRAINT cs_session_check3 CHECK (
        CASE WHEN state IN (3, 4) THEN agent_id <> 0 WHEN state IN (1, 2) THEN agent_id = 0 ELSE true END);
CREATE INDEX cs_session_seated ON cs_session (tenant_id, agent_id) WHERE state IN (3, 4);
