-- A prefix `shop` admitted `shopping-mall` as well: a name had no end. Now it admits `shop` and what continues it with `/`,
-- `:` or `.`, and `shop*` is everything that starts so (src/lib/source-prefix.ts). The upgrade locks no sender out, except
-- those of sources with a segment of dots, a tab or a line break: to a prefix that does not end in `/`, `:` or `.`, its
-- wide form is added, which `sluice keys list` shows. The plain one stays beside it, for instances of the version before,
-- which run a while longer and know no `*`. (One that ends in `*` meant this very character, and would be wide by itself.)
UPDATE sluice.keys
SET source_prefixes = ARRAY (
  SELECT unnest(CASE
    WHEN prefix ~ '[/:.]$'   THEN ARRAY[prefix]
    WHEN prefix LIKE '%*'    THEN ARRAY[prefix || '*']
    ELSE                          ARRAY[prefix, prefix || '*']
  END)
  FROM unnest(source_prefixes) WITH ORDINALITY AS before (prefix, place)
  ORDER BY place
)
WHERE source_prefixes <> '{}';
