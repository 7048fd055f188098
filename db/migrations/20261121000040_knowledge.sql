-- migrate:up

-- What the shops know: questions with their answers.
CREATE TABLE cs_faq (
    id                bigint PRIMARY KEY,
    tenant_id         text NOT NULL,
    question          text NOT NULL,
    answer            text NOT NULL,
    similar_questions text[] NOT NULL DEFAULT '{}',
    category          text NOT NULL DEFAULT '',
    -- BCP 47.
    locale            text NOT NULL,
    disabled          boolean NOT NULL DEFAULT false,
    version           bigint NOT NULL DEFAULT 1,
    -- Makes creation safe to repeat; NULL for entries that came from a file.
    request_id        text,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now()
);
-- A question is answered once; a disabled entry does not stand in the way of a new one.
CREATE UNIQUE INDEX cs_faq_by_question ON cs_faq (tenant_id, locale, question) WHERE NOT disabled;
CREATE UNIQUE INDEX cs_faq_by_request_id ON cs_faq (tenant_id, request_id) WHERE request_id IS NOT NULL;
CREATE INDEX cs_faq_by_tenant ON cs_faq (tenant_id, id);

-- One row for each text by which an entry is found: its question, its similar questions, its answer.
-- Disabled entries have none, so a search never meets them.
CREATE TABLE cs_faq_embedding (
    faq_id    bigint NOT NULL REFERENCES cs_faq ON DELETE CASCADE,
    -- 0 is the question, the last one the answer, between them the similar questions in their order.
    part      smallint NOT NULL,
    tenant_id text NOT NULL,
    embedding vector(384) NOT NULL,
    PRIMARY KEY (faq_id, part)
);
-- Small shops are searched exactly, over this one; big ones over the other (services/knowledge/search.py).
CREATE INDEX cs_faq_embedding_by_tenant ON cs_faq_embedding (tenant_id);
CREATE INDEX cs_faq_embedding_nearest ON cs_faq_embedding USING hnsw (embedding vector_cosine_ops)
    WITH (m = 16, ef_construction = 200);

ALTER TABLE cs_faq ENABLE ROW LEVEL SECURITY;
ALTER TABLE cs_faq FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON cs_faq
    USING (tenant_id = current_setting('octopus.tenant', true))
    WITH CHECK (tenant_id = current_setting('octopus.tenant', true));

ALTER TABLE cs_faq_embedding ENABLE ROW LEVEL SECURITY;
ALTER TABLE cs_faq_embedding FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON cs_faq_embedding
    USING (tenant_id = current_setting('octopus.tenant', true))
    WITH CHECK (tenant_id = current_setting('octopus.tenant', true));

GRANT SELECT, INSERT, UPDATE ON cs_faq TO octopus_knowledge;
GRANT SELECT, INSERT, DELETE ON cs_faq_embedding TO octopus_knowledge;

-- migrate:down
DROP TABLE cs_faq_embedding, cs_faq;
