-- migrate:up

-- Conversations: the truth. Valkey holds a projection of the live ones, which can be rebuilt from here at any time.
-- `state`, `end_reason` and `handoff_reason` hold the numbers of the enums in octopus.session.v1.
CREATE TABLE cs_session (
    id             bigint PRIMARY KEY,
    tenant_id      text NOT NULL,
    customer_id    bigint NOT NULL,
    customer_name  text NOT NULL,
    channel        text NOT NULL,
    locale         text NOT NULL,
    state          smallint NOT NULL CHECK (state BETWEEN 1 AND 5),
    -- Grows by one with each change of the columns above and below, except active_at.
    version        bigint NOT NULL,
    -- 0 when none. An ended session keeps its agent.
    agent_id       bigint NOT NULL DEFAULT 0,
    agent_name     text NOT NULL DEFAULT '',
    opened_at      timestamptz NOT NULL,
    -- The place in the queue: who asked first is served first, also after an offer that lapsed.
    handoff_at     timestamptz,
    handoff_reason smallint NOT NULL DEFAULT 0,
    -- Until when the agent may accept.
    offered_until  timestamptz,
    accepted_at    timestamptz,
    ended_at       timestamptz,
    end_reason     smallint NOT NULL DEFAULT 0,
    -- No later than the last word; looked up in the log before a session is ended for idleness.
    active_at      timestamptz NOT NULL,
    CHECK ((state = 3) = (offered_until IS NOT NULL)),
    CHECK ((state = 5) = (ended_at IS NOT NULL)),
    CHECK (state NOT IN (2, 3, 4) OR handoff_at IS NOT NULL),
    CHECK (CASE WHEN state IN (3, 4) THEN agent_id <> 0 WHEN state IN (1, 2) THEN agent_id = 0 ELSE true END)
);
-- A customer has one open session.
CREATE UNIQUE INDEX cs_session_open ON cs_session (tenant_id, customer_id) WHERE state <> 5;
CREATE INDEX cs_session_waiting ON cs_session (tenant_id, handoff_at, id) WHERE state = 2;
CREATE INDEX cs_session_seated ON cs_session (tenant_id, agent_id) WHERE state IN (3, 4);
CREATE INDEX cs_session_offered ON cs_session (offered_until) WHERE state = 3;
CREATE INDEX cs_session_active_at ON cs_session (active_at) WHERE state <> 5;
CREATE INDEX cs_session_by_age ON cs_session (tenant_id, id);
CREATE INDEX cs_session_by_customer ON cs_session (tenant_id, customer_id, id);
CREATE INDEX cs_session_by_agent ON cs_session (tenant_id, agent_id, id) WHERE agent_id <> 0;

-- People who answer. `status` holds the numbers of octopus.session.v1.AgentStatus. A row comes with the first status.
CREATE TABLE cs_agent (
    tenant_id        text NOT NULL,
    user_id          bigint NOT NULL,
    display_name     text NOT NULL,
    status           smallint NOT NULL CHECK (status BETWEEN 1 AND 3),
    capacity         integer NOT NULL CHECK (capacity > 0),
    -- Grows by one with each change of status, capacity or name.
    version          bigint NOT NULL,
    last_assigned_at timestamptz,
    PRIMARY KEY (tenant_id, user_id)
);
CREATE INDEX cs_agent_by_name ON cs_agent (tenant_id, display_name, user_id);
CREATE INDEX cs_agent_present ON cs_agent (tenant_id) WHERE status <> 3;

CREATE TABLE cs_session_outbox (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id   text NOT NULL,
    subject     text NOT NULL,
    message_id  text NOT NULL,
    type        text NOT NULL,
    payload     bytea NOT NULL,
    traceparent text,
    created_at  timestamptz NOT NULL DEFAULT now()
);

DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['cs_session', 'cs_agent', 'cs_session_outbox'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY own_tenant ON %I USING (tenant_id = current_setting(''octopus.tenant'', true))'
            ' WITH CHECK (tenant_id = current_setting(''octopus.tenant'', true))', name);
        -- Lapsed offers, idle sessions, lost queues and what is to be sent are looked for in all shops at once.
        EXECUTE format(
            'CREATE POLICY every_tenant ON %I FOR SELECT USING (current_setting(''octopus.tenant'', true) = ''*'')', name);
    END LOOP;
END $$;

GRANT SELECT, INSERT, UPDATE ON cs_session, cs_agent TO octopus_session;
GRANT SELECT, INSERT, DELETE ON cs_session_outbox TO octopus_session;

-- migrate:down
DROP TABLE cs_session_outbox, cs_agent, cs_session;
