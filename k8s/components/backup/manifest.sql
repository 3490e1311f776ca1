-- Describes the content of the schema as JSON: the number of rows of each table, and a hash of them. It is made from the
-- snapshot of the dump and again from the restored tables. If the two are equal, the restore is correct.
--
-- The hash is the XOR of the SHA-256 of every row's text: it does not depend on the order of rows, and needs no memory for
-- large tables. The settings below fix everything else that the text of a row depends on.
SET LOCAL search_path = pg_catalog;
SET LOCAL timezone = 'UTC';
SET LOCAL datestyle = 'ISO, YMD';
SET LOCAL intervalstyle = 'postgres';
SET LOCAL bytea_output = 'hex';
SET LOCAL extra_float_digits = 1;

SELECT format(
         $$
           SELECT jsonb_pretty(jsonb_build_object(
             'records', (SELECT count(*) FROM sluice.records),
             'last_received_at', (SELECT max(received_at) FROM sluice.records),
             'tables', (
               SELECT jsonb_object_agg(name, jsonb_build_object('rows', rows, 'content', content)) FROM (%s) AS t (name, rows, content)
             )
           ))
         $$,
         string_agg(
           format(
             $$
               SELECT %L, count(*), bit_xor(('x' || encode(sha256(convert_to(r::text, 'UTF8')), 'hex'))::bit(256))::text
               FROM sluice.%I AS r
             $$,
             tablename, tablename
           ),
           ' UNION ALL ' ORDER BY tablename
         )
       )
FROM pg_tables WHERE schemaname = 'sluice'
\gexec
