-- migrate:up

-- Agents who talked in the session before it went back to the queue: they may still read it.
ALTER TABLE cs_session ADD COLUMN former_agents bigint[] NOT NULL DEFAULT '{}';
CREATE INDEX cs_session_by_former_agent ON cs_session USING gin (former_agents) WHERE former_agents <> '{}';

-- The generation of the tokens with which the agent was last known to act. A log-out everywhere of that generation or
-- an older one has been dealt with; a token of an older one cannot bring the agent back on duty.
ALTER TABLE cs_agent ADD COLUMN token_generation integer NOT NULL DEFAULT 0;

-- migrate:down
ALTER TABLE cs_agent DROP COLUMN token_generation;
DROP INDEX cs_session_by_former_agent;
ALTER TABLE cs_session DROP COLUMN former_agents;
