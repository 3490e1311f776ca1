-- So far the prefix `shop` also allowed the source `shopping-mall`. Now it allows `shop` and every source that continues it
-- with `/`, `:` or `.`, and `shop*` allows every source that starts with `shop` (src/lib/source-prefix.ts). The upgrade locks
-- no sender out, except senders of sources with a `.` or `..` segment, a tab or a line break: each prefix that does not end in
-- `/`, `:` or `.` also gets its form with `*`, which `sluice keys list` shows. The plain form stays, for instances of the
-- previous version, which run a while longer and do not know `*`. (A prefix that ended in `*` meant that character. With the
-- new meaning it would allow more, so it is replaced by its form with a second `*`.)
UPDATE sluice.keys
SET source_prefixes = ARRAY (
  SELECT unnest(CASE
    WHEN prefix ~ '[/:.]$'   THEN ARRAY[prefix]
    WHEN prefix LIKE '%*'    THEN ARRAY[prefix || '*']
    ELSE                          ARRAY[prefix, prefix || '*']
  END)
  FROM unnest(source_prefixes) WITH ORDINALITY AS old (prefix, ordinal)
  ORDER BY ordinal
)
WHERE source_prefixes <> '{}';
