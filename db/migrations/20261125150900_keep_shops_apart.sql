-- migrate:up

-- What every table of a shop's rows needs, for the migrations that follow: a statement sees and writes the rows of the
-- shop that its transaction is for (`octopus.tenant`), and no others, the owner's statements included.
CREATE FUNCTION keep_shops_apart(name regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', name);
    EXECUTE format(
        'CREATE POLICY own_tenant ON %s USING (tenant_id = current_setting(''octopus.tenant'', true))'
        ' WITH CHECK (tenant_id = current_setting(''octopus.tenant'', true))', name);
END $$;
REVOKE EXECUTE ON FUNCTION keep_shops_apart(regclass) FROM PUBLIC;

-- migrate:down
DROP FUNCTION keep_shops_apart(regclass);
