-- migrate:up

-- Nobody reads it: the session service says whose a session is, and the archive asks it.
DROP TABLE cs_merged_visitor;

-- migrate:down
CREATE TABLE cs_merged_visitor (
    tenant_id   text NOT NULL,
    visitor_id  bigint PRIMARY KEY,
    customer_id bigint NOT NULL,
    merged_at   timestamptz NOT NULL
);
CREATE INDEX cs_merged_visitor_by_customer ON cs_merged_visitor (tenant_id, customer_id);
SELECT keep_shops_apart('cs_merged_visitor');
GRANT SELECT, INSERT ON cs_merged_visitor TO octopus_archive;
