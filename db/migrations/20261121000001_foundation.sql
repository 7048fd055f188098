-- migrate:up

CREATE EXTENSION IF NOT EXISTS vector;
CREATE EXTENSION IF NOT EXISTS pg_trgm;

-- One role per service, known by the service's certificate; none has a password, owns a table or passes row-level
-- security. What a role may do is granted beside each table. Roles belong to the whole server, so they may be there.
DO $$
DECLARE service text;
BEGIN
    FOREACH service IN ARRAY ARRAY['user', 'chat', 'session', 'archive', 'knowledge', 'bot'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'octopus_' || service) THEN
            EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS', 'octopus_' || service);
        END IF;
        EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', 'octopus_' || service);
    END LOOP;
END $$;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON DATABASE octopus FROM PUBLIC;
GRANT CONNECT ON DATABASE octopus TO octopus_user, octopus_chat, octopus_session, octopus_archive, octopus_knowledge, octopus_bot;

-- migrate:down
DROP EXTENSION pg_trgm;
DROP EXTENSION vector;
