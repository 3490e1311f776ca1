-- What is in the schema: of each table the number of its rows and a hash of them, as JSON. Taken from the snapshot that
-- a dump was made of, and again from what was restored, it says whether the two are the same.
--
-- The hash is the XOR of the SHA-256 of every row's text: it needs no order, and no memory however large the table is.
-- All that a row's text depends on besides the row is set here.
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
